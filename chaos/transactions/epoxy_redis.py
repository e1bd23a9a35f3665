"""Redis as a store that has each transaction before its commit; what it holds and how is in `redis_versions`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from chaos.errors import StoreUnavailable
from chaos.stores import policies
from chaos.stores.redis import RedisStore, Script
from chaos.transactions import redis_base
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.redis_versions import FILL, FOLLOW, SHIP, TAKE_BACK, text
from chaos.transactions.rows import RedoRow
from chaos.transactions.secondaries import APPLIED_KEY, REFUSED_KEY, RedisSecondary
from chaos.transactions.shipper import ShipRefused
from chaos.transactions.system import Site
from chaos.workload.base import Genesis

_SHIP_S = 1.0
_ARM = "epoxy:"
"""Marks in the commit log the server processes that hold versions, which the redo arm does not know."""


class EpoxyRedis(RedisSecondary):
    """One script for each batch, before SQLite's COMMIT; a failed batch is taken back before the next is sent."""

    ship_script = SHIP
    take_back_script = TAKE_BACK

    def __init__(self, store: RedisStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        """Follow `log`."""
        super().__init__(store, genesis, log, site)
        self._numbers = itertools.count(1)
        self._settled = False

    @property
    def server(self) -> str:
        """The run_id of the server process that was filled from the log; empty while none is known."""
        return (self._trusted or "").removeprefix(_ARM)

    async def applied(self) -> int:
        """Settle what an earlier batch has left, fill a server that is not known, and return where it is.

        Raises StoreError. Nobody may be shipping.
        """
        process = await self._process()
        if self._trusted is None:
            self._trusted = await self.log.trusted(self.name)
        if process != self._trusted:
            return await self._fill(process)
        value = await self.store.execute("GET", APPLIED_KEY)
        if value is None:
            return await self._fill(process)
        if self._settled and int(value) <= self.log.last_csn:
            return int(value)
        return await self._take_back(process, int(value))

    async def _take_back(self, process: str, applied: int) -> int:
        """Take away what was never committed, and refuse from now on what was sent before."""
        told = applied > self.log.last_csn
        if told:
            await self._site.phase("redis.purging", None, self.name)
        outcome, *rest = await self._ordered(self.take_back_script)
        if outcome in ("torn", "empty"):  # somebody has meddled with the keys: all of it comes from the log
            return await self._fill(process)
        if outcome != "settled":
            raise StoreUnavailable(self.name, f"taking back was refused: {outcome}")
        if told:
            await self._site.phase("redis.purged", None, self.name)
        self._settled = True
        return int(rest[0])

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Apply rows that are committed; False when those before are missing."""
        outcome, *_ = await self._ordered(FOLLOW, _told(rows))
        if outcome not in ("followed", "already", "gap"):
            raise StoreUnavailable(self.name, f"rows of the log were refused: {outcome}")
        return bool(outcome != "gap")

    async def ship(self, rows: Sequence[RedoRow], horizon: int) -> None:
        """Write the versions of a batch that is not committed yet; a lost reply makes it be sent again.

        horizon: nobody reads at a lower number. Raises ShipRefused when a command cannot be run on the data, and
        StoreError; then the batch may be there, and `applied` takes it back.
        """
        self._settled = False
        head = self._head(horizon)
        outcome: list[Any] = []
        async for attempt in policies.ship(_SHIP_S):
            with attempt:
                outcome = await self.store.evaluate(self.ship_script, (APPLIED_KEY,), (head, _told(rows)))
        if outcome[0] == "refused":
            raise ShipRefused(self.name, outcome[2], outcome[1])
        if outcome[0] not in ("shipped", "already"):
            raise StoreUnavailable(self.name, f"the batch was not taken: {outcome[0]}")

    async def keep(self, csn: int) -> None:
        """Note that what was shipped up to `csn` is committed; now and then make a base."""
        self._settled = True
        await self._make_base_if_due(csn)

    async def _process(self) -> str:
        return _ARM + await super()._process()

    async def _refill(self, csn: int, commands: Sequence[list[str]]) -> None:
        server = await self._process()
        what = "empty"
        tail = [["SET", "chaos:~horizon", str(csn)], ["SET", APPLIED_KEY, str(csn)]]
        for part, final in redis_base.parts(commands):
            outcome, *_ = await self._ordered(FILL, what, text([*part, *tail] if final else part), server=server)
            if outcome != "filled":
                raise StoreUnavailable(self.name, f"filling was refused: {outcome}")
            what = "part"
        self._settled = True

    async def _ordered(self, script: Script, *arguments: str, server: str | None = None) -> list[Any]:
        reply: list[Any] = await self.store.evaluate(
            script, (APPLIED_KEY, REFUSED_KEY), (self._head(0, server), *arguments)
        )
        return reply

    def _head(self, horizon: int, server: str | None = None) -> str:
        """Return the next order, and what a script must know; see `redis_versions`."""
        return text(
            {
                "epoch": str(self.log.epoch),
                "number": str(next(self._numbers)),
                "server": (server or self._trusted or "").removeprefix(_ARM),
                "committed": str(self.log.last_csn),
                "horizon": str(horizon),
            }
        )


def _told(rows: Sequence[RedoRow]) -> str:
    return text([[str(row.csn), str(row.previous), row.token, row.writes.redis] for row in rows])
