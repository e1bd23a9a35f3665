"""The leader that ships a batch to Redis and to the graph before SQLite commits it.

SQLite's transaction is open meanwhile, with the rows of the batch in it and its lock held, so nobody else can have
taken over: what is shipped belongs to the only leader, or bears an order that Redis refuses and comes from a process
that holds the graph's lock in vain. SQLite's COMMIT stays the point at which the batch is decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from chaos.errors import StoreError, StoreInDoubt, StoreUnavailable
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.attempt import Attempt
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.leader import Leader
from chaos.transactions.rows import BatchLost, RedoRow
from chaos.transactions.shipper import Shipper, ShipRefused
from chaos.transactions.system import Site
from chaos.transactions.tokens import Tokens

_PATIENCE_S = 5.0
"""How long a batch waits for a store that is being settled or filled; its transactions have deadlines besides."""


_CAREFUL = 64
"""Batches after a failed one that are shipped to one store after the other, since the next failure may be near."""


class EpoxyLeader(Leader):
    """Commits what both other stores have taken, and nothing else."""

    _commits_at_once = False

    def __init__(
        self, sqlite: SQLiteStore, log: CommitLog, shippers: Sequence[Shipper], tokens: Tokens, site: Site
    ) -> None:
        """Nothing runs yet; see `start`. shippers: that of the store which is rid of a batch most easily goes first."""
        super().__init__(sqlite, log, shippers, tokens, site)
        self._shippers = tuple(shippers)
        self._arrived: set[Shipper] = set()
        self._careful = 0

    async def _commit(self, batch: list[Attempt]) -> None:
        """Commit those of `batch` that are not abandoned; no store is touched before each is at the log's end."""
        await self._hold_stores()
        try:
            await super()._commit(batch)
        finally:
            for shipper in self._shippers:
                shipper.lock.release()

    async def _commit_rows(self, batch: list[Attempt]) -> list[RedoRow]:
        try:
            rows = await super()._commit_rows(batch)
            await super()._after_commit(rows)  # before the stores say that they have it, which wakes the callers
            return rows
        finally:
            for shipper in self._shippers:
                await shipper.conclude(arrived=shipper in self._arrived)
            self._arrived.clear()

    async def _write(self, batch: list[Attempt]) -> list[RedoRow] | None:
        try:
            return await super()._write(batch)
        except StoreUnavailable as error:  # SQLite has rolled back for certain, so they count as not handed over again
            for attempt in batch:
                attempt.handed_over = False
            if isinstance(error, ShipRefused):
                raise BatchLost(error.store, _words(error)) from error
            raise

    async def _before_commit(self, going: Sequence[Attempt], rows: Sequence[RedoRow]) -> bool:
        """Ship to both stores at once. Raises ShipRefused or StoreUnavailable; then nothing will be committed.

        From here on the callers cannot abandon: taking back a whole batch for one that is late would cost the others.
        """
        if any(attempt.abandoned for attempt in going):
            return False
        for attempt in going:  # no await lies between this and the question
            attempt.handed_over = True
        if not rows:
            return True
        failures = await (self._ship_in_turn(rows) if self._careful else self._ship_at_once(rows))
        self._careful = _CAREFUL if failures else max(0, self._careful - 1)
        for error in sorted(failures, key=lambda error: not isinstance(error, ShipRefused)):
            if isinstance(error, StoreInDoubt):  # the store is; the batch is not, since SQLite will not commit it
                raise StoreUnavailable(error.store, _words(error)) from error
            raise error
        return True

    async def _ship_at_once(self, rows: Sequence[RedoRow]) -> list[BaseException]:
        outcomes = await asyncio.gather(*(one.ship(rows) for one in self._shippers), return_exceptions=True)
        self._arrived = {one for one, error in zip(self._shippers, outcomes, strict=True) if error is None}
        return [error for error in outcomes if error is not None]

    async def _ship_in_turn(self, rows: Sequence[RedoRow]) -> list[BaseException]:
        """Ship to Redis first, which is rid of a batch at little cost, and to the graph if that went well."""
        for shipper in self._shippers:
            try:
                await shipper.ship(rows)
            except StoreError as error:
                return [error]
            self._arrived.add(shipper)
        return []

    async def _after_commit(self, rows: Sequence[RedoRow]) -> None:
        """Do nothing: that was done while the stores were still held."""

    async def _hold_stores(self) -> None:
        """Lock both stores, each known to be at the end of the log. Raises StoreUnavailable when one stays away."""
        held: list[Shipper] = []
        try:
            async with asyncio.timeout(_PATIENCE_S):
                for shipper in self._shippers:
                    await shipper.acquire()
                    held.append(shipper)
        except BaseException as error:
            for shipper in held:
                shipper.lock.release()
            if isinstance(error, TimeoutError):
                away = self._shippers[len(held)]
                raise StoreUnavailable(away.name, f"away: {away.trouble or 'it is being settled'}") from None
            raise


def _words(error: StoreError) -> str:
    return str(error).removeprefix(f"{error.store}: ")
