"""Known bugs, each a small change to the right system, that the checks must catch.

NoFsync      the commit log is not synced, so a power cut takes acknowledged transactions back
LazyFsync    the commit log is synced at checkpoints only, which a killed process never shows
EagerPurge   rows of the commit log go as soon as the stores have answered, not when something else holds them durably
HastyPurge   rows of the commit log go before the base that holds them is noted
TrustingGraph  what the engine left behind is opened again, however it ended
TrustingRedis  what the server reads from its own file is believed, holes or not
Optimist     a commit that a full disk refused is acknowledged
Hasty        a commit that takes longer than its deadline is called aborted
WallClock    whether a deadline has passed is read from the wall clock
Fickle       a transaction is given up now and then, though nothing is in its way
EarlyApply   Redis has a transaction before its commit, which may never come
NoRecovery   a new process believes the stores to be up to date, so what a crash interrupted stays torn
NoIdempotence  a store is not asked what it has before a request is repeated, so a lost reply doubles it
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import WriteTransaction
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.footprint import Validation
from chaos.transactions.graph_secondary import GraphSecondary
from chaos.transactions.redo import RedoSystem
from chaos.transactions.rows import RedoRow, Result
from chaos.transactions.secondaries import APPLIED_KEY, APPLY_UNCHECKED, RedisSecondary
from chaos.transactions.system import Aborted, Committed, InDoubt, Outcome, Request, Site
from chaos.transactions.unit import Transaction
from chaos.workload.base import Genesis


class NoFsync(RedoSystem):
    """SQLite never syncs its log."""

    synchronous = "OFF"


class LazyFsync(RedoSystem):
    """SQLite syncs its log at checkpoints only."""

    synchronous = "NORMAL"


class _PurgingLog(CommitLog):
    async def append(
        self,
        transaction: WriteTransaction,
        units: Sequence[Transaction],
        validation: Validation | None = None,
        *,
        begin: bool = False,
        commit: bool = False,  # never with what is appended: more follows
    ) -> list[Result]:
        results = await super().append(transaction, units, validation, begin=begin)
        await transaction.execute("DELETE FROM redo WHERE csn <= ?", (self.floor,))
        return results


class EagerPurge(RedoSystem):
    """What a store has applied is purged from the log at the next commit, durable there or not."""

    commit_log = _PurgingLog


class _HastyLog(CommitLog):
    async def add_base(self, store: str, csn: int, content: str, site: Site | None = None) -> None:
        async with self._noting() as transaction:
            await transaction.execute("DELETE FROM redo WHERE csn <= ?", (csn,))
        await super().add_base(store, csn, content, site)


class HastyPurge(RedoSystem):
    """What a base holds is purged from the log by a transaction of its own, before the one that notes the base."""

    commit_log = _HastyLog


class _TrustingGraph(GraphSecondary):
    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        super().__init__(store, genesis, log, site)
        store.recovery = None


class TrustingGraph(RedoSystem):
    """The graph's files are opened as they are, and followed from the number that they tell."""

    graph_secondary = _TrustingGraph


class _TrustingRedis(RedisSecondary):
    async def applied(self) -> int:
        value = await self.store.execute("GET", APPLIED_KEY)
        return int(value) if value is not None else await super().applied()


class TrustingRedis(RedoSystem):
    """A server that tells a number is believed to have everything up to it."""

    redis_secondary = _TrustingRedis


class Optimist(RedoSystem):
    """Whatever goes wrong before the commit point, the client hears that it went well."""

    async def transact(self, request: Request) -> Outcome:
        """Take a full disk for a commit."""
        outcome = await super().transact(request)
        full = isinstance(outcome, Aborted) and "SQLITE_FULL" in outcome.reason
        return Committed(csn=0) if full else outcome


class Hasty(RedoSystem):
    """What is not committed by its deadline counts as aborted, although nobody calls it back."""

    async def transact(self, request: Request) -> Outcome:
        """Take what nobody knows for an abort."""
        outcome = await super().transact(request)
        return Aborted(reason=outcome.reason) if isinstance(outcome, InDoubt) else outcome


class WallClock(RedoSystem):
    """Past its deadline by the wall clock, a transaction counts as aborted."""

    async def transact(self, request: Request) -> Outcome:
        """Look at the clock when it is done."""
        end_s = time.time() + request.deadline_s
        outcome = await super().transact(request)
        return outcome if time.time() <= end_s else Aborted(reason="the deadline passed")


class Fickle(RedoSystem):
    """Every twentieth transaction of a client is given up."""

    async def transact(self, request: Request) -> Outcome:
        """Give up by the number in the token's name."""
        if request.token.startswith("c") and int(request.token.partition(".")[2]) % 20 == 7:
            return Aborted(reason="not in the mood")
        return await super().transact(request)


class _EarlyLog(CommitLog):
    early: _EarlyRedis | None = None

    async def append(
        self,
        transaction: WriteTransaction,
        units: Sequence[Transaction],
        validation: Validation | None = None,
        *,
        begin: bool = False,
        commit: bool = False,  # never with what is appended: more follows
    ) -> list[Result]:
        results = await super().append(transaction, units, validation, begin=begin)
        rows = [result for result in results if isinstance(result, RedoRow)]
        if self.early is not None and rows:
            await self.early.apply(rows)
        return results


class _EarlyRedis(_TrustingRedis):
    def __init__(self, store: RedisStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        super().__init__(store, genesis, log, site)
        assert isinstance(log, _EarlyLog)
        log.early = self


class EarlyApply(RedoSystem):
    """Redis is written, and believed, before SQLite has decided."""

    commit_log = _EarlyLog
    redis_secondary = _EarlyRedis


class _BelievingRedis(_TrustingRedis):
    """Takes the end of the log at the start for what Redis has."""

    def __init__(self, store: RedisStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        super().__init__(store, genesis, log, site)
        self.believed: int | None = None

    async def applied(self) -> int:
        real = await super().applied()
        self.believed = self.log.last_csn if self.believed is None else self.believed
        return max(real, self.believed)

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        return await super().apply([msgspec.structs.replace(row, previous=0) for row in rows])


class _BelievingGraph(_TrustingGraph):
    """Takes the end of the log at the start for what the graph has."""

    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        super().__init__(store, genesis, log, site)
        self.believed: int | None = None

    async def applied(self) -> int:
        real = await super().applied()
        self.believed = self.log.last_csn if self.believed is None else self.believed
        return max(real, self.believed)

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        return await super().apply([msgspec.structs.replace(row, previous=0) for row in rows])


class NoRecovery(RedoSystem):
    """Opening does not replay the log."""

    redis_secondary = _BelievingRedis
    graph_secondary = _BelievingGraph


class _RepeatingRedis(RedisSecondary):
    """Runs the commands whatever Redis has, and asks only once where it is."""

    script = APPLY_UNCHECKED

    def __init__(self, store: RedisStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        super().__init__(store, genesis, log, site)
        self.last: int | None = None

    async def applied(self) -> int:
        if self.last is None:
            self.last = await super().applied()
        return self.last

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        done = await super().apply(rows)
        self.last = rows[-1].csn
        return done


class _RepeatingGraph(GraphSecondary):
    """Runs the statements whatever the graph has, and asks only once where it is."""

    checked = False

    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        super().__init__(store, genesis, log, site)
        self.last: int | None = None

    async def applied(self) -> int:
        if self.last is None:
            self.last = await super().applied()
        return self.last

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        done = await super().apply(rows)
        self.last = rows[-1].csn
        return done


class NoIdempotence(RedoSystem):
    """A request that is repeated takes effect again."""

    redis_secondary = _RepeatingRedis
    graph_secondary = _RepeatingGraph
