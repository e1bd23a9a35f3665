"""Reading connections inside the graph child, as the parent sees them, and snapshots on them.

A connection belongs to one child: when that one dies so do its connections and snapshots, and whoever holds one is
told so by StoreUnavailable. No more requests are sent at once than the child has reading threads, since what waits
inside the child would have its watchdog running. A request, once sent, is followed to its end in a task of its own,
so that a cancelled caller never leaves a connection in use behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from chaos._channel import RemoteError
from chaos.errors import StoreError, StoreUnavailable
from chaos.stores.background import Background
from chaos.stores.graph_desk import ReadingDesk
from chaos.stores.pool import Pool, Trade
from chaos.stores.pool_model import PoolReport, PoolSettings

_NAME = "graph"


class Child(Protocol):
    """What the readers need of the store: the child that runs, and how it is asked."""

    async def wait_child(self, timeout_s: float) -> object:
        """Wait for a running child and return what stands for it. Raises StoreUnavailable, HarnessError."""

    def is_current(self, child: object) -> bool:
        """Tell whether `child` is the one that serves now."""

    async def ask(self, child: object, op: str, arguments: Mapping[str, Any], patience_s: float) -> Any:
        """Ask that child and no other. Raises StoreUnavailable; silence costs the child its life."""


class ReadingConnection:
    """A connection of one child. `broken` when it must not be used again; it may have been closed already."""

    def __init__(self, readers: GraphReaders, child: object, number: int) -> None:
        """Belong to `child`, which knows the connection as `number`."""
        self._readers = readers
        self._number = number
        self._one_at_a_time = asyncio.Lock()
        self.child = child
        self.broken = False
        self.in_snapshot = False

    async def ask(self, op: str, patience_s: float, **arguments: Any) -> Any:
        """Send one request when those before it are answered; it goes on when the caller is cancelled."""
        return await self._readers.background.follow(self._ask(op, patience_s, arguments))

    async def begin(self, patience_s: float) -> None:
        """Begin a read-only transaction. Raises StoreUnavailable."""
        self.in_snapshot = True
        await self.ask("begin", patience_s)

    async def clean(self, patience_s: float) -> bool:
        """Wait for requests under way and end the transaction; tell whether that left the connection as new."""
        async with self._one_at_a_time:
            pass
        if self.in_snapshot and not self.broken:
            with suppress(StoreError):
                await self.ask("end", patience_s)
                self.in_snapshot = False
        return not self.broken and not self.in_snapshot

    async def disconnect(self, patience_s: float) -> None:
        """Have the child close it, unless that has happened. Raises nothing of a store."""
        async with self._one_at_a_time:
            with suppress(StoreError):
                await self._readers.ask(self.child, "disconnect", {"connection": self._number}, patience_s)
            self.broken = True

    async def _ask(self, op: str, patience_s: float, arguments: dict[str, Any]) -> Any:
        async with self._one_at_a_time:
            if self.broken:
                raise StoreUnavailable(_NAME, f"{op}: the connection is gone after an earlier error")
            try:
                return await self._readers.ask(self.child, op, {"connection": self._number, **arguments}, patience_s)
            except BaseException as error:
                cause = error.__cause__
                self.broken = not (isinstance(cause, RemoteError) and cause.kind == "Refused")
                raise


class GraphSnapshot:
    """The graph as it was at one moment; made by `GraphStore.snapshot`, used while its block is open."""

    def __init__(self, connection: ReadingConnection, patience_s: float) -> None:
        """Read on `connection`, where a read-only transaction is open."""
        self._connection = connection
        self._patience_s = patience_s
        self.ended = False

    async def query(
        self, cypher: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> list[list[Any]]:
        """Run one reading statement; it sees the state of the moment when the snapshot began.

        Raises StoreUnavailable: the statement was refused whole (a parameter is missing, it would write), and the
        snapshot is as before; or it failed, or the child has died, and then the snapshot is gone with all later
        queries. Several queries at once run one after the other. Cancellation: safe; a statement that was sent
        runs to its end, and the snapshot is as before.
        """
        if self.ended:
            raise StoreUnavailable(_NAME, "the snapshot has ended")
        rows: list[list[Any]] = await self._connection.ask(
            "read", timeout_s or self._patience_s, cypher=cypher, parameters=dict(parameters or {})
        )
        return rows


class GraphReaders:
    """Lends connections of the running child, and makes them when none is idle."""

    def __init__(
        self, store: Child, *, concurrent_count: int, patience_s: float, pool: PoolSettings, snapshots: PoolSettings
    ) -> None:
        """Ask through `store`, `concurrent_count` requests at a time, each with `patience_s` unless told otherwise."""
        self._store = store
        self._patience_s = patience_s
        self._asking = asyncio.Semaphore(concurrent_count)
        self.background = Background()
        trade = Trade(
            make=self._make,
            close=lambda connection: connection.disconnect(patience_s),
            check=self._check,
            clean=lambda connection: connection.clean(patience_s),
            sound=lambda connection: not connection.broken and store.is_current(connection.child),
        )
        self._readers = Pool("graph.readers", pool, trade)
        self._snapshots = Pool("graph.snapshots", snapshots, trade)

    def start(self) -> None:
        """Begin to lend; a connection is made when the child is ready."""
        self._readers.start()
        self._snapshots.start()

    async def query(self, cypher: str, parameters: Mapping[str, Any], patience_s: float) -> list[list[Any]]:
        """Run one statement in a transaction of its own. Raises StoreUnavailable, PoolExhausted among them."""
        await self._store.wait_child(patience_s)
        async with self._readers.lend() as lease:
            rows: list[list[Any]] = await lease.item.ask("read", patience_s, cypher=cypher, parameters=dict(parameters))
            return rows

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[GraphSnapshot]:
        """Open a read-only transaction for the length of the block; see `GraphStore.snapshot`."""
        await self._store.wait_child(self._patience_s)
        async with self._snapshots.lend() as lease:
            connection = lease.item
            await connection.begin(self._patience_s)  # after an error the connection is broken, which the pool sees
            snapshot = GraphSnapshot(connection, self._patience_s)
            try:
                yield snapshot
            except asyncio.CancelledError:
                snapshot.ended = True
                raise  # the pool ends it; an engine that hangs must not hang those who have given up
            except BaseException:
                snapshot.ended = True
                await connection.clean(self._patience_s)
                raise
            snapshot.ended = True
            await connection.clean(self._patience_s)

    async def ask(self, child: object, op: str, arguments: Mapping[str, Any], patience_s: float) -> Any:
        """Ask `child` when one of its reading threads is free; endings have one of their own."""
        if op in ReadingDesk.ENDINGS:
            return await self._store.ask(child, op, arguments, patience_s)
        async with self._asking:
            return await self._store.ask(child, op, arguments, patience_s)

    def pools(self) -> list[PoolReport]:
        """Return the state of the readers' pool and of the snapshots'."""
        return [self._readers.report(), self._snapshots.report()]

    async def close(self) -> None:
        """Close every connection, and wait until nothing that was started here runs any more."""
        await self._readers.close()
        await self._snapshots.close()
        await self.background.wait_idle()

    async def _make(self) -> ReadingConnection:
        child = await self._store.wait_child(self._patience_s)
        return ReadingConnection(self, child, await self.ask(child, "connect", {}, self._patience_s))

    async def _check(self, connection: ReadingConnection) -> bool:
        rows = await connection.ask("read", self._patience_s, cypher="RETURN 1", parameters={})
        return bool(rows == [[1]])
