"""The control: each store commits in turn, and errors are compensated as well as can be.

This is what a careful programmer writes without a log: the order is fixed, every error is caught, and what was
done is undone. It must be caught by the checks, or they have no teeth. It fails in three ways: a crash between
two commits leaves the transaction torn for ever; a lost reply makes it undo what may not have been done; and
the compensation itself needs the store that has just failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from chaos.errors import StoreError, TransactionInDoubt
from chaos.history.model import StoreImage
from chaos.stores import policies
from chaos.stores.pool_model import PoolReport
from chaos.transactions.redo import ping, read_back
from chaos.transactions.stores import Stores
from chaos.transactions.system import Aborted, Committed, Outcome, Request, Resolution, Site
from chaos.transactions.unit import Transaction
from chaos.workload import Workload, load
from chaos.workload.base import Genesis, WorkRefused, Writes

_READY_S = 15.0
_OPEN_S = 5.0


async def commit_sqlite(stores: Stores, writes: Writes) -> None:
    """Commit in SQLite alone. Raises StoreError."""
    async with stores.sqlite.write() as transaction:
        for sql, parameters in writes.sqlite:
            await transaction.execute(sql, parameters)
        await transaction.commit()


async def commit_redis(stores: Stores, writes: Writes) -> None:
    """Send the commands one by one. Raises StoreError; then those before it have taken effect."""
    for command in writes.redis:
        await stores.redis.execute(*command)


async def commit_graph(stores: Stores, writes: Writes) -> None:
    """Commit in the graph alone. Raises StoreError."""
    await stores.graph.write(writes.graph)


async def set_up_naive(stores: Stores, genesis: Genesis) -> None:
    """Create schema and first rows in each store, then let go of them. Raises StoreError."""
    try:
        await stores.sqlite.open()
        schema = tuple((sql, ()) for sql in genesis.sqlite_schema)
        await commit_sqlite(stores, Writes(sqlite=(*schema, *genesis.rows.sqlite)))
        await commit_redis(stores, genesis.rows)
        stores.graph.open()
        await stores.graph.wait_ready(_READY_S)
        await stores.graph.seed(genesis.graph_schema, genesis.rows.graph)
    finally:
        await stores.close()


class NaiveCoordinator:
    """The control with the coordinator's interface: it keeps no promise when something fails, and undoes nothing."""

    def __init__(self, stores: Stores, site: Site) -> None:
        """Nothing is connected."""
        self._stores = stores
        self._site = site
        self._count = 0

    @property
    def sqlite_commits(self) -> int:
        """How many transactions SQLite has committed since `open`."""
        return self._count

    async def open(self) -> None:
        """Connect to the stores. Raises StoreUnavailable when SQLite cannot be opened within 5 s."""
        async for attempt in policies.sqlite_open(_OPEN_S):
            with attempt:
                await self._stores.sqlite.open()
        self._stores.graph.open()

    async def recover(self, in_doubt: Sequence[str] = ()) -> dict[str, Resolution]:
        """Resolve nothing: nobody knows."""
        await self._stores.graph.wait_ready(_READY_S)
        return {}

    @asynccontextmanager
    async def transaction(self, *, deadline_s: float = 5.0, token: str | None = None) -> AsyncIterator[Transaction]:
        """Run the block, then commit in each store in turn.

        Raises TransactionInDoubt for whatever goes wrong after the first commit: it may be torn. Not safe to cancel.
        """
        unit = Transaction(token or uuid4().hex, self._stores.sqlite, self._stores.redis, self._stores.graph)
        try:
            async with asyncio.timeout(deadline_s):
                yield unit
                await self._commit_in_turn(unit)
        except (StoreError, TimeoutError) as error:
            raise TransactionInDoubt(unit.token, f"torn, perhaps: {error}") from error
        finally:
            unit.end()
        self._count += 1
        unit.csn, unit.applied = self._count, True

    async def close(self) -> None:
        """Close every connection and the graph's process. Idempotent."""
        await self._stores.close()

    async def _commit_in_turn(self, unit: Transaction) -> None:
        writes = Writes(
            sqlite=tuple(unit.sqlite.writes), redis=tuple(unit.redis.writes), graph=tuple(unit.graph.writes)
        )
        await self._site.phase("sqlite.committing", unit.token, "sqlite")
        await commit_sqlite(self._stores, writes)
        await self._site.phase("sqlite.committed", unit.token, "sqlite")
        await commit_redis(self._stores, writes)
        await commit_graph(self._stores, writes)
        await self._site.phase("acknowledged", unit.token)


class NaiveSystem:
    """SQLite, then Redis, then the graph, without a log."""

    def __init__(self) -> None:
        """Nothing is connected; `set_up` or `open` comes first."""
        self._stores: Stores | None = None
        self._workload: Workload | None = None
        self._site: Site | None = None
        self._count = 0

    async def set_up(self, site: Site) -> None:
        """Create schema and first rows in each store, then let go of them. Raises StoreError."""
        genesis = load(site.config.workload).genesis()
        self._stores = Stores(site)
        try:
            await self._stores.sqlite.open()
            schema = tuple((sql, ()) for sql in genesis.sqlite_schema)
            await self._commit_sqlite(Writes(sqlite=(*schema, *genesis.rows.sqlite)))
            await self._commit_redis(genesis.rows)
            self._stores.graph.open()
            await self._stores.graph.wait_ready(_READY_S)
            await self._stores.graph.seed(genesis.graph_schema, genesis.rows.graph)
        finally:
            await self.close()

    async def open(self, site: Site) -> None:
        """Connect to the stores. Raises StoreUnavailable when SQLite cannot be opened within 5 s."""
        self._site = site
        self._workload = load(site.config.workload)
        self._stores = Stores(site)
        async for attempt in policies.sqlite_open(_OPEN_S):
            with attempt:
                await self._stores.sqlite.open()
        self._stores.graph.open()

    async def transact(self, request: Request) -> Outcome:
        """Run the body, then commit in each store in turn; on an error undo what was done, as far as it goes."""
        assert self._stores is not None
        assert self._workload is not None
        assert self._site is not None
        stores = self._stores
        unit = Transaction(request.token, stores.sqlite, stores.redis, stores.graph)
        done: list[str] = []
        try:
            async with asyncio.timeout(request.deadline_s):
                await self._site.phase("begin", request.token)
                reads = await self._workload.perform(unit, request.spec)
                await self._site.phase("buffered", request.token)
                await self._commit_in_turn(unit, done)
        except WorkRefused as error:
            return Aborted(reason=str(error), refused=True)
        except (StoreError, TimeoutError) as error:
            return await self._compensate(request, done, str(error) or "the deadline passed")
        await self._site.phase("acknowledged", request.token)
        self._count += 1
        return Committed(csn=self._count, reads=reads)

    async def recover(self, in_doubt: Sequence[str]) -> Mapping[str, Resolution]:
        """Believe SQLite: a transfer that is there is called committed, any other aborted."""
        assert self._stores is not None
        image = await self._image_of_sqlite()
        return {token: "committed" if token in image.marks else "aborted" for token in in_doubt}

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Read each store itself. Raises StoreError when one does not answer."""
        return await read_back(self._stores, self._workload)

    def pools(self) -> list[PoolReport]:
        """Return the state of every pool of connections; the metrics of a run hold them."""
        return [] if self._stores is None else self._stores.pools()

    async def ping(self) -> Mapping[str, bool]:
        """Ask each store for nothing, all at once, for 0.8 s at most."""
        return await ping(self._stores)

    async def close(self) -> None:
        """Close every connection and the graph's process. Idempotent."""
        if self._stores is not None:
            await self._stores.close()
            self._stores = None

    async def _commit_in_turn(self, unit: Transaction, done: list[str]) -> None:
        """Commit in each store; `done` gets the name of each that answered well."""
        assert self._site is not None
        writes = Writes(
            sqlite=tuple(unit.sqlite.writes), redis=tuple(unit.redis.writes), graph=tuple(unit.graph.writes)
        )
        await self._site.phase("sqlite.committing", unit.token, "sqlite")
        await self._commit_sqlite(writes)
        done.append("sqlite")
        await self._site.phase("sqlite.committed", unit.token, "sqlite")
        await self._site.phase("redis.applying", unit.token, "redis")
        await self._commit_redis(writes)
        done.append("redis")
        await self._site.phase("redis.applied", unit.token, "redis")
        await self._site.phase("graph.applying", unit.token, "graph")
        await self._commit_graph(writes)
        done.append("graph")
        await self._site.phase("graph.applied", unit.token, "graph")

    async def _compensate(self, request: Request, done: Sequence[str], reason: str) -> Outcome:
        """Undo in the stores that had committed, newest first; a store that fails again is left as it is."""
        assert self._site is not None
        assert self._workload is not None
        await self._site.phase("compensating", request.token)
        writes = self._workload.undo(request.token, request.spec)
        undo = {"sqlite": self._commit_sqlite, "redis": self._commit_redis, "graph": self._commit_graph}
        for store in reversed(done):
            with suppress(StoreError):
                await undo[store](writes)
        if self._stores is not None and self._stores.sqlite.halted is not None:
            with suppress(StoreError):
                await self._stores.sqlite.reopen()
        return Aborted(reason=f"compensated {len(done)} stores: {reason}")

    async def _commit_sqlite(self, writes: Writes) -> None:
        assert self._stores is not None
        await commit_sqlite(self._stores, writes)

    async def _commit_redis(self, writes: Writes) -> None:
        assert self._stores is not None
        await commit_redis(self._stores, writes)

    async def _commit_graph(self, writes: Writes) -> None:
        assert self._stores is not None
        await commit_graph(self._stores, writes)

    async def _image_of_sqlite(self) -> StoreImage:
        assert self._stores is not None
        assert self._workload is not None
        return await self._workload.image_sqlite(self._stores.sqlite)
