"""The commit log: which transactions are committed, in which order, and what they write elsewhere.

Four tables in SQLite. `commits` has a row per committed transaction and is the only truth about outcomes.
`redo` has the same transaction's writes for the other stores, so that they can be brought up at any time
later. `bases` says from what else than the first rows each of them can be begun anew. `meta` names the process
that may commit: each new one writes its own name there, and whoever finds another name inside its own commit is
fenced off, however long it was paused.

**What may be purged.** A row of `redo` may go when a store that has lost everything can still be made again: when
every store has bases that hold it, durably. What a store has applied says nothing, for it may lose that.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from chaos.errors import ChaosError, StoreInDoubt, StoreUnavailable
from chaos.stores import policies
from chaos.stores.sqlite import SQLiteStore, WriteTransaction
from chaos.transactions.append import Appender, Entry
from chaos.transactions.footprint import Validation
from chaos.transactions.rows import RedoRow, Result, WriteSet, write_set
from chaos.transactions.system import Site
from chaos.transactions.unit import Transaction

FOLLOWERS = ("redis", "graph")
_BATCH = 64
_BASES_KEPT = 2
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS commits(csn INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE)",
    """CREATE TABLE IF NOT EXISTS redo(
    csn INTEGER PRIMARY KEY, previous INTEGER NOT NULL, token TEXT NOT NULL, write_set TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS refusals(
    store TEXT NOT NULL, csn INTEGER NOT NULL, token TEXT NOT NULL, error TEXT NOT NULL, PRIMARY KEY(store, csn))""",
    """CREATE TABLE IF NOT EXISTS bases(
    store TEXT NOT NULL, csn INTEGER NOT NULL, content TEXT NOT NULL, PRIMARY KEY(store, csn))""",
    "INSERT OR IGNORE INTO meta VALUES ('owner', ''), ('epoch', '0')",
)


class Fenced(ChaosError):
    """Another process has taken the commit log over; this one must not commit any more."""


class CommitLog:
    """The log inside `store`. `last_csn` is the newest commit known to be durable.

    epoch: higher than that of everybody who had the log before; 0 before `take_over`.
    """

    def __init__(self, store: SQLiteStore) -> None:
        """Keep the store; `take_over` must run before anything else."""
        self._store = store
        self._owner = f"{os.getpid()}-{time.monotonic_ns()}"
        self._owned = False
        self._reopening = asyncio.Lock()
        self._seals: dict[str, str] = {}
        self.last_csn = 0
        self.epoch = 0
        self.floor = 0

    async def create(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Create the tables, and run the workload's own `statements`, in one transaction."""
        async with self._store.write() as transaction:
            for sql in _SCHEMA:
                await transaction.execute(sql)
            for sql, parameters in statements:
                await transaction.execute(sql, parameters)
            await transaction.commit()

    async def take_over(self) -> None:
        """Become the only process that may commit; everything read afterwards is durable.

        The first call fences the process before, and breaks the seals that it left; a later one (after the store
        was reopened) raises Fenced when somebody else came in between. The commit syncs the log, and the checkpoint
        copies what a crash left in it into the database and syncs that, so a row that is visible now cannot vanish
        again, not even when a sync has failed before. Raises StoreError.
        """
        async with self._store.write() as transaction:
            [(owner,)] = await transaction.fetch("SELECT value FROM meta WHERE key = 'owner'")
            if self._owned and owner != self._owner:
                raise Fenced(f"owner={owner} has taken over from {self._owner}")
            await transaction.execute("UPDATE meta SET value = ? WHERE key = 'owner'", (self._owner,))
            await transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
            [(epoch,)] = await transaction.fetch("SELECT value FROM meta WHERE key = 'epoch'")
            seals = await transaction.fetch("SELECT key, value FROM meta WHERE key LIKE 'seal.%'")
            await transaction.execute("DELETE FROM meta WHERE key LIKE 'seal.%'")
            [(last,)] = await transaction.fetch("SELECT max(csn) FROM commits")
            await transaction.commit()
        await self._store.checkpoint("TRUNCATE")
        if not self._owned:
            self._seals = {key.partition(".")[2]: value for key, value in seals}
        self._owned = True
        self.epoch = int(epoch)
        self.last_csn = last or 0

    async def reopen(self) -> None:
        """Open the store again if it is halted, for as long as that takes. Raises Fenced."""
        async with self._reopening:
            if self._store.halted is None:
                return
            async for attempt in policies.sqlite_reopen():
                with attempt:
                    await self._store.reopen(self.take_over)

    async def append(
        self,
        transaction: WriteTransaction,
        units: Sequence[Transaction],
        validation: Validation | None = None,
        *,
        begin: bool = False,
        commit: bool = False,
    ) -> list[Result]:
        """Write data, commit rows and redo rows into the open `transaction`, in one hop; the caller commits.

        A unit that `validation` objects to is left out; one whose rows are not allowed is undone alone. Raises
        Fenced, and StoreUnavailable when nothing of the batch is left (BatchLost: a statement is to blame). begin:
        whether the transaction is still to be begun. commit: whether COMMIT may follow in the same hop, see
        `WriteTransaction.run`.
        """
        entries = [(unit, write_set(unit)) for unit in units]

        def work(connection: sqlite3.Connection) -> list[Result]:
            if begin:
                connection.execute("BEGIN IMMEDIATE")
            return self._append(connection, entries, validation)

        return await transaction.run(work, commit_if=_has_rows if commit else None)

    def _append(
        self,
        connection: sqlite3.Connection,
        entries: Sequence[Entry],
        validation: Validation | None,
    ) -> list[Result]:
        """Do what `append` says, on the writer's thread."""
        owner, last = connection.execute(
            "SELECT (SELECT value FROM meta WHERE key = 'owner'), (SELECT max(csn) FROM commits)"
        ).fetchone()
        if owner != self._owner:
            raise Fenced(f"owner={owner} has taken over from {self._owner}")
        return Appender(connection, last or 0, self.floor).append(entries, validation)

    def committed(self, row: RedoRow) -> None:
        """Note that `row` is durable."""
        self.last_csn = max(self.last_csn, row.csn)

    def raise_floor(self, applied: int) -> None:
        """Never give out a number that some store has seen, even if this log has lost it."""
        self.floor = max(self.floor, applied)

    async def after(self, csn: int) -> list[RedoRow]:
        """Return the next rows after `csn`, in order, a few dozen at most. Raises StoreUnavailable."""
        rows = await self._store.fetch(
            "SELECT csn, previous, token, write_set FROM redo WHERE csn > ? ORDER BY csn LIMIT ?", (csn, _BATCH)
        )
        return [
            RedoRow(csn=number, previous=previous, token=token, writes=msgspec.json.decode(text, type=WriteSet))
            for number, previous, token, text in rows
        ]

    async def count_up_to(self, csn: int) -> int:
        """Return how many commits have a number of at most `csn`. Raises StoreUnavailable."""
        [(count,)] = await self._store.fetch("SELECT count(*) FROM commits WHERE csn <= ?", (csn,))
        return int(count)

    async def refuse(self, store: str, row: RedoRow, error: str) -> None:
        """Note, durably, that `store` will never take its part of `row`. Raises StoreError or Fenced."""
        async with self._noting() as transaction:
            await transaction.execute(
                "INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?)", (store, row.csn, row.token, error)
            )

    async def refusals(self, store: str) -> dict[int, tuple[str, str]]:
        """Return what `store` will never take: token and error by number. Raises StoreUnavailable."""
        rows = await self._store.fetch("SELECT csn, token, error FROM refusals WHERE store = ?", (store,))
        return {csn: (token, error) for csn, token, error in rows}

    async def demand_owner(self) -> None:
        """Raise Fenced when another process has taken the log over. Raises StoreUnavailable."""
        [(owner,)] = await self._store.fetch("SELECT value FROM meta WHERE key = 'owner'")
        if owner != self._owner:
            raise Fenced(f"owner={owner} has taken over from {self._owner}")

    async def read_end(self) -> None:
        """Learn the newest commit from the store. Nobody may be committing. Raises StoreUnavailable."""
        [(last,)] = await self._store.fetch("SELECT max(csn) FROM commits")
        self.last_csn = last or 0

    async def csn_of(self, token: str) -> int | None:
        """Return the number of `token`, None when it is not committed. Raises StoreUnavailable."""
        rows = await self._store.fetch("SELECT csn FROM commits WHERE token = ?", (token,))
        return rows[0][0] if rows else None

    def take_seal(self, store: str) -> str | None:
        """Return the seal that the process before put on `store`, once; None when it did not end in peace."""
        return self._seals.pop(store, None)

    async def seal(self, store: str, value: str) -> None:
        """Note, durably, that `store` was closed in peace, and how it is known again. Raises StoreError or Fenced."""
        async with self._noting() as transaction:
            await transaction.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"seal.{store}", value))

    async def trusted(self, store: str) -> str | None:
        """Return what `trust` has noted last. Raises StoreUnavailable."""
        rows = await self._store.fetch("SELECT value FROM meta WHERE key = ?", (f"trust.{store}",))
        return rows[0][0] if rows else None

    async def trust(self, store: str, process: str) -> None:
        """Note, durably, that what `process` has in memory comes from this log. Raises StoreError or Fenced."""
        async with self._noting() as transaction:
            await transaction.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"trust.{store}", process))

    async def beginnings(self, store: str) -> list[tuple[int, str | None]]:
        """Return from what `store` can be made anew, the newest first: number and content of a base; None: first rows.

        Each is followed in the log by all that comes after it. Raises StoreUnavailable, also when there is none.
        """
        bases = await self._store.fetch("SELECT csn, content FROM bases WHERE store = ? ORDER BY csn DESC", (store,))
        rows = await self._store.fetch("SELECT previous FROM redo ORDER BY csn LIMIT 1")
        oldest = rows[0][0] if rows else self.last_csn
        found = [(csn, content) for csn, content in (*bases, (0, None)) if csn >= oldest]
        if not found:
            raise StoreUnavailable(
                store, f"cannot be made anew: the log begins after csn={oldest}, later than any base"
            )
        return found

    async def add_base(self, store: str, csn: int, content: str, site: Site | None = None) -> None:
        """Keep a base, what `store` holds after `csn`, and purge what none needs any more. Raises StoreError or Fenced.

        Two bases of each store are kept, and the rows behind the older one, so that a base which turns out to be
        unreadable costs time and not data. The site is told before the commit of all that, and after it.
        """
        async with self._noting() as transaction:
            await transaction.execute("INSERT OR REPLACE INTO bases VALUES (?, ?, ?)", (store, csn, content))
            await transaction.execute(
                "DELETE FROM bases WHERE store = ?1 AND csn NOT IN"
                " (SELECT csn FROM bases WHERE store = ?1 ORDER BY csn DESC LIMIT ?2)",
                (store, _BASES_KEPT),
            )
            await self._purge(transaction)
            if site is not None:
                await site.phase("log.purging", None, "sqlite")
        if site is not None:
            await site.phase("log.purged", None, "sqlite")

    async def _purge(self, transaction: WriteTransaction) -> None:
        counted = await transaction.fetch("SELECT count(*), min(csn) FROM bases GROUP BY store")
        if [count for count, _ in counted] == [_BASES_KEPT] * len(FOLLOWERS):
            await transaction.execute("DELETE FROM redo WHERE csn <= ?", (min(oldest for _, oldest in counted),))

    @asynccontextmanager
    async def _noting(self) -> AsyncIterator[WriteTransaction]:
        """Run the block in a transaction of the owner. When its outcome is in doubt, SQLite is opened again first."""
        try:
            async with self._store.write() as transaction:
                [(owner,)] = await transaction.fetch("SELECT value FROM meta WHERE key = 'owner'")
                if owner != self._owner:
                    raise Fenced(f"owner={owner} has taken over from {self._owner}")
                yield transaction
                await transaction.commit()
        except StoreInDoubt:
            await self.reopen()
            raise


def _has_rows(results: Sequence[Result]) -> bool:
    return any(isinstance(one, RedoRow) for one in results)
