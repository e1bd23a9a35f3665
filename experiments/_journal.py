"""A small store with the mistakes that most stores once had, for the experiments beside this file.

It keeps everything in one journal of two sectors for each transaction: the token in the first, the mark in the second.
A system of one's own (see own_system.py) that other experiment files name as "_journal.py:TriesAgain".
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from chaos.history.model import StoreImage
from chaos.transactions.system import Committed, InDoubt, Outcome, Request, Resolution, Site

SECTOR_BYTES = 512
RECORD_BYTES = 2 * SECTOR_BYTES
ATTEMPTS = 3


class Journal:
    """Appends a record, syncs, acknowledges. Mistake: whatever is in the file counts, whole or not."""

    async def set_up(self, site: Site) -> None:
        """Nothing to create."""

    async def open(self, site: Site) -> None:
        """Open the journal and believe it."""
        self.site = site
        path = site.config.folder("sqlite") / "journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(path, os.O_RDWR | os.O_CREAT)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self.end = os.fstat(self.file).st_size // SECTOR_BYTES * SECTOR_BYTES

    async def transact(self, request: Request) -> Outcome:
        """Write, sync, acknowledge."""
        await self.site.phase("writing", request.token)
        record = request.token.encode().ljust(SECTOR_BYTES) + request.spec["mark"].encode().ljust(SECTOR_BYTES)
        try:
            self.end += os.pwrite(self.file, record, self.end)
            self.sync()
        except OSError as error:
            return InDoubt(reason=str(error))
        await self.site.phase("written", request.token)
        return Committed(csn=self.end // RECORD_BYTES)

    def sync(self) -> None:
        """Make the journal durable. Raises OSError."""
        os.fdatasync(self.file)

    async def recover(self, in_doubt: Sequence[str]) -> Mapping[str, Resolution]:
        """Look the tokens up."""
        known = self._marks()
        return {token: "committed" if token in known else "aborted" for token in in_doubt}

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Read the journal. The harness asks for three stores; here they are all the same one."""
        return dict.fromkeys(("sqlite", "redis", "graph"), StoreImage(marks=self._marks()))

    async def ping(self) -> Mapping[str, bool]:
        """It is always there."""
        return dict.fromkeys(("sqlite", "redis", "graph"), True)

    async def close(self) -> None:
        """Close the file."""
        os.close(self.file)

    def _marks(self) -> dict[str, list[str]]:
        text = os.pread(self.file, self.end, 0)
        records = [text[at : at + RECORD_BYTES] for at in range(0, len(text), RECORD_BYTES)]
        halves = [(record[:SECTOR_BYTES], record[SECTOR_BYTES:]) for record in records if record.strip(b"\0")]
        return {_text(token): [_text(mark)] for token, mark in halves}


class TriesAgain(Journal):
    """Mistake: a sync that failed is tried again, and its success is believed."""

    def sync(self) -> None:
        """Try up to ATTEMPTS times. Raises the last OSError."""
        for _ in range(ATTEMPTS - 1):
            with suppress(OSError):
                return super().sync()
        return super().sync()


def _text(field: bytes) -> str:
    return field.decode(errors="replace").strip(" \0")
