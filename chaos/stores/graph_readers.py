"""Reading connections inside the graph child, as the parent sees them, and snapshots on them.

A connection belongs to one child: when that one dies so do its connections and snapshots, and whoever holds one is
told so by StoreUnavailable. No more requests are sent at once than the child has reading threads, since what waits
inside the child would have its watchdog running. A request, once sent, is followed to its end in a task of its own,
so that a cancelled caller never leaves a connection in use behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from chaos._channel import RemoteError
from chaos.errors import ChaosError, StoreError, StoreUnavailable
from chaos.stores.background import Background

_NAME = "graph"


class Child(Protocol):
    """What the readers need of the store: the child that runs, and how it is asked."""

    async def wait_child(self, timeout_s: float) -> object:
        """Wait for a running child and return what stands for it. Raises StoreUnavailable, HarnessError."""

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

    async def ask(self, op: str, patience_s: float, **arguments: Any) -> Any:
        """Send one request when those before it are answered; see `Child.ask`."""
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

    def __init__(self, readers: GraphReaders, connection: ReadingConnection, patience_s: float) -> None:
        """Read on `connection`, where a read-only transaction is open."""
        self._readers = readers
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
        arguments = {"cypher": cypher, "parameters": dict(parameters or {})}
        asking = self._connection.ask("read", timeout_s or self._patience_s, **arguments)
        rows: list[list[Any]] = await self._readers.background.follow(asking)
        return rows


class GraphReaders:
    """Lends connections of the running child, and makes them when none is idle."""

    def __init__(self, store: Child, *, concurrent_count: int, idle_count_max: int = 8) -> None:
        """Ask through `store`, `concurrent_count` requests at a time; keep at most `idle_count_max` connections."""
        self._store = store
        self._asking = asyncio.Semaphore(concurrent_count)
        self._idle_count_max = idle_count_max
        self._idle: list[ReadingConnection] = []
        self.background = Background()

    async def query(self, cypher: str, parameters: Mapping[str, Any], patience_s: float) -> list[list[Any]]:
        """Run one statement in a transaction of its own. Raises StoreUnavailable."""

        async def run() -> list[list[Any]]:
            connection = await self._take(patience_s)
            try:
                rows: list[list[Any]] = await connection.ask(
                    "read", patience_s, cypher=cypher, parameters=dict(parameters)
                )
                return rows
            finally:
                await self._give_back(connection, patience_s)

        return await self.background.follow(run())

    @asynccontextmanager
    async def snapshot(self, patience_s: float) -> AsyncIterator[GraphSnapshot]:
        """Open a read-only transaction for the length of the block; see `GraphStore.snapshot`."""
        beginning = self.background.start(self._begin(patience_s))
        try:
            connection = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            self.background.start(self._end_when_begun(beginning, patience_s))
            raise
        snapshot = GraphSnapshot(self, connection, patience_s)
        cancelled = False
        try:
            yield snapshot
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            snapshot.ended = True
            ending = self.background.start(self._end(connection, patience_s))
            if not cancelled:  # an engine that hangs must not hang those who have given up
                await asyncio.shield(ending)

    async def ask(self, child: object, op: str, arguments: Mapping[str, Any], patience_s: float) -> Any:
        """Ask `child` when one of its reading threads is free."""
        async with self._asking:
            return await self._store.ask(child, op, arguments, patience_s)

    async def wait_idle(self) -> None:
        """Wait until nothing that was started here runs any more."""
        await self.background.wait_idle()
        self._idle.clear()

    async def _begin(self, patience_s: float) -> ReadingConnection:
        connection = await self._take(patience_s)
        try:
            await connection.ask("begin", patience_s)
        except BaseException:
            connection.broken = True
            await self._give_back(connection, patience_s)
            raise
        return connection

    async def _end_when_begun(self, beginning: Awaitable[ReadingConnection], patience_s: float) -> None:
        try:
            connection = await beginning
        except ChaosError:
            return  # nothing was begun
        await self._end(connection, patience_s)

    async def _end(self, connection: ReadingConnection, patience_s: float) -> None:
        """End the transaction; a connection where that fails is not used again. Raises no StoreError."""
        try:
            await connection.ask("end", patience_s)
        except StoreError:
            connection.broken = True
        await self._give_back(connection, patience_s)

    async def _take(self, patience_s: float) -> ReadingConnection:
        child = await self._store.wait_child(patience_s)
        while self._idle:
            connection = self._idle.pop()
            if connection.child is child:
                return connection
        return ReadingConnection(self, child, await self.ask(child, "connect", {}, patience_s))

    async def _give_back(self, connection: ReadingConnection, patience_s: float) -> None:
        """Keep a sound connection for the next one, and close the others."""
        if not connection.broken and len(self._idle) < self._idle_count_max:
            self._idle.append(connection)
            return
        connection.broken = False
        with suppress(StoreError):  # it is closed already, or its child is gone
            await connection.ask("disconnect", patience_s)
        connection.broken = True
