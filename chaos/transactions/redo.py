"""The system under test with a redo log: the right one, which must hold under every fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import msgspec

from chaos.errors import StoreError, TransactionAborted, TransactionInDoubt
from chaos.history.model import StoreImage
from chaos.stores.graph_launch import StartChild
from chaos.stores.pool_model import PoolReport
from chaos.transactions.applier import Applier
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.coordinator import Coordinator
from chaos.transactions.graph_secondary import GraphSecondary
from chaos.transactions.secondaries import RedisSecondary, refused
from chaos.transactions.stores import Stores
from chaos.transactions.system import Aborted, Committed, InDoubt, Outcome, Request, Resolution, Site
from chaos.transactions.unit import Isolation
from chaos.workload import Workload, load
from chaos.workload.base import WorkRefused

_SET_UP_S = 15.0
_PING_S = 0.8


class RedoSystem:
    """`Coordinator` behind the `System` protocol, with the workload that the site's configuration names.

    The class attributes are seams: a planted bug is a subclass that changes one of them.
    """

    synchronous: str | None = None
    isolation: Isolation = "serializable"
    start_graph: StartChild | None = None
    commit_log = CommitLog
    redis_secondary = RedisSecondary
    graph_secondary = GraphSecondary
    applier: type[Applier] = Applier
    coordinator: type[Coordinator] = Coordinator

    def __init__(self) -> None:
        """Nothing is connected; `set_up` or `open` comes first."""
        self._stores: Stores | None = None
        self._workload: Workload | None = None
        self._coordinator: Coordinator | None = None

    async def set_up(self, site: Site) -> None:
        """Create schema and first rows in each store, then let go of them. Raises StoreError."""
        workload = load(site.config.workload)
        genesis = workload.genesis()
        stores = Stores(site, synchronous=self.synchronous)
        log = CommitLog(stores.sqlite)
        schema = tuple((sql, ()) for sql in genesis.sqlite_schema)
        try:
            await stores.sqlite.open()
            await log.create((*schema, *genesis.rows.sqlite))
            await log.take_over()
            redis = RedisSecondary(stores.redis_applier, genesis, log, site)
            graph = GraphSecondary(stores.graph, genesis, log, site)
            stores.graph.open()
            await stores.graph.wait_ready(_SET_UP_S)
            await redis.applied()
            await graph.close()
        finally:
            await stores.close()

    async def open(self, site: Site) -> None:
        """Connect, take over the commit log, and begin to bring the stores up. Raises StoreUnavailable."""
        self._workload = load(site.config.workload)
        genesis = self._workload.genesis()
        stores = Stores(site, synchronous=self.synchronous, start_graph=self.start_graph)
        log = self.commit_log(stores.sqlite)
        redis = self.redis_secondary(stores.redis_applier, genesis, log, site)
        graph = self.graph_secondary(stores.graph, genesis, log, site)
        base_every = site.config.options.get("system", {}).get("base_every")
        if base_every is not None:
            redis.base_every = graph.base_every = base_every
        appliers = (self.applier(redis, log, site), self.applier(graph, log, site))
        self._stores = stores
        self._coordinator = self.coordinator(stores, log, appliers, site)
        redis.snapshots = self._coordinator.snapshot_numbers
        try:
            await self._coordinator.open()
        except BaseException:
            await self.close()
            raise

    async def transact(self, request: Request) -> Outcome:
        """Run the workload's body in a transaction, anew after a conflict; every way to end becomes an outcome."""
        assert self._coordinator is not None
        assert self._workload is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + request.deadline_s
        while True:
            outcome = await self._attempt(request, max(0.0, end - loop.time()))
            if not (isinstance(outcome, Aborted) and outcome.retryable and loop.time() < end):
                return outcome

    async def _attempt(self, request: Request, deadline_s: float) -> Outcome:
        assert self._coordinator is not None
        assert self._workload is not None
        try:
            async with self._coordinator.transaction(
                deadline_s=deadline_s, token=request.token, isolation=self.isolation
            ) as unit:
                reads = await self._workload.perform(unit, request.spec)
        except WorkRefused as error:
            return Aborted(reason=str(error), refused=True)
        except TransactionAborted as error:
            return Aborted(reason=str(error), retryable=error.retryable)
        except TransactionInDoubt as error:
            return InDoubt(reason=str(error))
        assert unit.csn is not None
        return Committed(csn=unit.csn, applied=unit.applied, reads=reads)

    async def recover(self, in_doubt: Sequence[str]) -> Mapping[str, Resolution]:
        """Bring the stores up to the log, waiting a few seconds at most, and look up the tokens."""
        assert self._coordinator is not None
        return await self._coordinator.recover(in_doubt)

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Read each store itself, and what Redis refused. Raises StoreError when one does not answer."""
        images = dict(await read_back(self._stores, self._workload))
        assert self._stores is not None
        images["redis"] = msgspec.structs.replace(images["redis"], refused=await refused(self._stores.redis))
        missing = await CommitLog(self._stores.sqlite).refusals("graph")
        told = {token: [error] for token, error in missing.values()}
        images["graph"] = msgspec.structs.replace(images["graph"], refused=told)
        return images

    def pools(self) -> list[PoolReport]:
        """Return the state of every pool of connections; the metrics of a run hold them."""
        return [] if self._stores is None else self._stores.pools()

    async def ping(self) -> Mapping[str, bool]:
        """Ask each store for nothing, all at once, for 0.8 s at most."""
        return await ping(self._stores)

    async def close(self) -> None:
        """Stop the coordinator and close every connection and the graph's process. Idempotent."""
        if self._coordinator is not None:
            await self._coordinator.close()
            self._coordinator = None


class SnapshotRedoSystem(RedoSystem):
    """The same under snapshot isolation, which lets write skew and phantoms pass."""

    isolation: Isolation = "snapshot"


async def read_back(stores: Stores | None, workload: Workload | None) -> Mapping[str, StoreImage]:
    """Read what each store holds now, one after the other. Raises StoreError."""
    assert stores is not None
    assert workload is not None
    return {
        "sqlite": await workload.image_sqlite(stores.sqlite),
        "redis": await workload.image_redis(stores.redis),
        "graph": await workload.image_graph(stores.graph),
    }


async def ping(stores: Stores | None) -> Mapping[str, bool]:
    """Ask each store for nothing, all at once; one that does not answer within 0.8 s counts as away."""
    assert stores is not None
    requests = {
        "sqlite": stores.sqlite.fetch("SELECT 1"),
        "redis": stores.redis.execute("PING"),
        "graph": stores.graph.query("RETURN 1"),
    }
    answers = await asyncio.gather(*(_answers(request) for request in requests.values()))
    return dict(zip(requests, answers, strict=True))


async def _answers(request: Awaitable[Any]) -> bool:
    try:
        async with asyncio.timeout(_PING_S):
            await request
    except (StoreError, TimeoutError):
        return False
    return True
