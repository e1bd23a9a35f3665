"""Keeps one store at the end of the commit log, so that the leader can ship each batch to it before the commit.

As long as nothing fails the leader alone writes to the store: it ships a batch, commits in SQLite, and says so here.
After a failure the task of the applier settles what was left, before anything else is sent: a batch that was not
committed is taken back, and a store that lacks something is given it from the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from chaos.errors import ChaosError, StoreUnavailable
from chaos.transactions.applier import Applier
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.rows import RedoRow
from chaos.transactions.secondaries import Secondary
from chaos.transactions.system import Site


class ShipRefused(StoreUnavailable):
    """The store will never take a transaction, because of its words or of the data. `token`: which, if it is known."""

    def __init__(self, store: str, error: str, token: str | None = None) -> None:
        """Keep whose fault it is."""
        self.token = token
        super().__init__(store, error if token is None else f"transaction {token}: {error}")


class Shippable(Secondary, Protocol):
    """A store that takes transactions before they are committed.

    `applied` takes back what it has beyond the log, so nobody may ship meanwhile.
    """

    async def ship(self, rows: Sequence[RedoRow], horizon: int) -> None:
        """Write `rows`, durably, so that they can be taken back. Raises ShipRefused or StoreError."""

    async def keep(self, csn: int) -> None:
        """Note that everything up to `csn` is committed. Raises StoreError; that loses nothing."""


class Shipper(Applier):
    """An applier that has nothing to do while all goes well. Whoever holds `lock` knows that it does nothing."""

    def __init__(self, secondary: Shippable, log: CommitLog, site: Site) -> None:
        """Nothing runs yet; see `start`."""
        super().__init__(secondary, log, site)
        self._shippable = secondary
        self._shipped: int | None = None
        self._used = False
        self.lock = asyncio.Lock()
        self.snapshots: Callable[[], Collection[int]] = set

    def offer(self, rows: Iterable[RedoRow]) -> None:
        """Do nothing: what is committed is here already."""

    async def acquire(self) -> None:
        """Take `lock` at a moment when the store is known to be at the end of the log. Raises ApplierDied.

        Cancellation: safe.
        """
        while True:
            await self.wait_for(self._log.last_csn)
            await self.lock.acquire()
            if self.has(self._log.last_csn):
                return
            self.lock.release()

    async def ship(self, rows: Sequence[RedoRow]) -> None:
        """Send a batch. `lock` is held, and `conclude` follows. Raises ShipRefused or StoreError."""
        self._shipped = rows[-1].csn
        self._used = True
        for row in rows:
            await self._site.phase(f"{self.name}.applying", row.token, self.name)
        await self._shippable.ship(rows, self._horizon())
        for row in rows:
            await self._site.phase(f"{self.name}.applied", row.token, self.name)

    async def conclude(self, *, arrived: bool) -> None:
        """Say that the batch has been decided; the log knows how. arrived: whether `ship` of this store went well.

        What was not committed is taken back before anything else happens here.
        """
        shipped, self._shipped = self._shipped, None
        if shipped is None:
            return
        if not arrived or shipped != self._log.last_csn:
            self._doubt()
            return
        self._note(shipped)
        try:
            await self._shippable.keep(shipped)
        except ChaosError:
            self._doubt()

    def _doubt(self) -> None:
        self._certain = False
        self._work.set()

    def _horizon(self) -> int:
        """Return the lowest number at which somebody reads, or soon will: a snapshot that is being opened has none."""
        lowest = self._log.last_csn if self._ceiling is None else min(self._log.last_csn, self._ceiling)
        return min((lowest, *self.snapshots()))

    async def _ask(self) -> None:
        await self._log.read_end()  # what is taken back must not depend on what this process remembers
        await super()._ask()

    async def _advance(self) -> bool:
        async with self.lock:
            return await super()._advance()

    async def _look(self) -> None:
        """Ask an idle store where it is; one that was just shipped to has told."""
        if self._used:
            self._used = False
            return
        async with self.lock:
            await self._ask()

    async def close(self) -> None:
        """Stop. A store with something that was not committed is not closed in peace."""
        doubtful = self._task is not None and not self._certain
        if doubtful:
            with suppress(ChaosError):
                await self.secondary.abandon()
        await super().close()
