"""A system whose only truth is SQLite: what it loses in a loss of power is what `PRAGMA synchronous` lets it lose."""

from __future__ import annotations

import mmap
import os
import sqlite3
from collections.abc import Mapping, Sequence

from chaos.history.model import StoreImage
from chaos.transactions.system import Committed, Outcome, Request, Resolution, Site

STORES = ("sqlite", "redis", "graph")
"""The harness asks for three stores; here they are all the same one."""


class SQLiteAlone:
    """One row for each transaction, acknowledged when COMMIT has returned; `synchronous` as the store declares it."""

    async def set_up(self, site: Site) -> None:
        """Nothing: a file that is lost is made anew by `open`."""

    async def open(self, site: Site) -> None:
        """Open the file in WAL mode."""
        self.site = site
        self.database = sqlite3.connect(site.config.folder("sqlite") / "main.db", isolation_level=None)
        [(mode,)] = self.database.execute("PRAGMA journal_mode=WAL")
        assert mode == "wal"
        self.database.execute(f"PRAGMA synchronous={site.config.options['sqlite']['synchronous']}")
        self.database.execute("CREATE TABLE IF NOT EXISTS marks (token TEXT PRIMARY KEY, mark TEXT)")

    async def transact(self, request: Request) -> Outcome:
        """Insert, commit, acknowledge."""
        await self.site.phase("inserting", request.token)
        self.database.execute("INSERT INTO marks VALUES (?, ?)", (request.token, request.spec["mark"]))
        await self.site.phase("inserted", request.token)
        return Committed(csn=self._count())

    async def recover(self, in_doubt: Sequence[str]) -> Mapping[str, Resolution]:
        """Look them up."""
        known = {token for (token,) in self.database.execute("SELECT token FROM marks")}
        return {token: "committed" if token in known else "aborted" for token in in_doubt}

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Read the table."""
        rows = self.database.execute("SELECT token, mark FROM marks").fetchall()
        return dict.fromkeys(STORES, StoreImage(marks={token: [mark] for token, mark in rows}))

    async def ping(self) -> Mapping[str, bool]:
        """Ask for the count."""
        return dict.fromkeys(STORES, self._count() >= 0)

    async def close(self) -> None:
        """Close the file, which checkpoints it."""
        self.database.close()

    def _count(self) -> int:
        return int(self.database.execute("SELECT count(*) FROM marks").fetchone()[0])


class SQLiteAndMap(SQLiteAlone):
    """Also writes through a shared map of a file of its own, which no operation log can tell."""

    async def open(self, site: Site) -> None:
        """Map a page and write into it."""
        await super().open(site)
        file = os.open(site.config.folder("sqlite") / "page", os.O_RDWR | os.O_CREAT)
        os.ftruncate(file, mmap.PAGESIZE)
        self.page = mmap.mmap(file, mmap.PAGESIZE)
        self.page[:5] = b"quiet"
