"""Snapshots of SQLite: a read transaction that stays open, on a connection that does nothing else meanwhile.

In WAL mode the first read inside a transaction fixes what all later ones see. BEGIN alone fixes nothing, so one
read is part of the beginning (sqlite.org, "Isolation In SQLite").
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import aiosqlite

from chaos.errors import StoreUnavailable
from chaos.stores.background import Background
from chaos.stores.sqlite_calls import NAME, Parameters, Row, stop, to_the_end, unavailable

_IDLE_COUNT_MAX = 8
_FIX = "SELECT count(*) FROM sqlite_master"


class SQLiteSnapshot:
    """The database as it was at one moment; made by `SQLiteStore.snapshot`, used while its block is open."""

    def __init__(
        self, connection: aiosqlite.Connection, halted: Callable[[], str | None], background: Background
    ) -> None:
        """Read on `connection`, where a transaction is open; `halted` says why the store refuses to read."""
        self._connection = connection
        self._halted = halted
        self._background = background
        self._one_at_a_time = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None
        self.ended = False

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one reading statement and return its rows; it sees the state of the moment when the snapshot began.

        Raises StoreUnavailable, also when the store was halted, closed or reopened since; an error of the statement
        leaves the snapshot as it was. Cancellation: the statement is interrupted, and the snapshot stays usable.
        """
        async with self._one_at_a_time:
            await self.wait_stopped()
            self._refuse_when_over()
            try:
                task = self._background.start(self._connection.execute_fetchall(sql, parameters))
                return list(await asyncio.shield(task))  # type: ignore[arg-type]  # rows are tuples here
            except asyncio.CancelledError:
                self._stopping = self._background.start(stop(self._connection, task))
                raise
            except (sqlite3.Error, ValueError) as error:
                raise unavailable(error) from error

    async def wait_stopped(self) -> None:
        """Wait until the statement of a cancelled `fetch` is over: an interrupt meant for it might hit another."""
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
            self._stopping = None

    def _refuse_when_over(self) -> None:
        why = self._halted()
        if self.ended:
            raise StoreUnavailable(NAME, "the snapshot has ended")
        if why is not None:
            raise StoreUnavailable(NAME, f"halted: {why}")
        try:
            if not self._connection.in_transaction:
                raise StoreUnavailable(NAME, "the snapshot has ended: its transaction is gone")
        except ValueError as error:  # closed
            raise unavailable(error) from error


class SnapshotConnections:
    """Read-only connections for snapshots, apart from those for single statements; made when none is idle."""

    def __init__(self, connect: Callable[[], Awaitable[aiosqlite.Connection]]) -> None:
        """Make connections with `connect`."""
        self._connect = connect
        self._background = Background()
        self._idle: list[aiosqlite.Connection] = []
        self._all: set[aiosqlite.Connection] = set()

    @asynccontextmanager
    async def snapshot(self, halted: Callable[[], str | None]) -> AsyncIterator[SQLiteSnapshot]:
        """See `SQLiteStore.snapshot`."""
        beginning = self._background.start(self._begin())
        try:
            connection = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            self._background.start(self._undo(beginning))
            raise
        snapshot = SQLiteSnapshot(connection, halted, self._background)
        cancelled = False
        try:
            yield snapshot
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            snapshot.ended = True
            ending = self._background.start(self._end(connection, snapshot))
            if not cancelled:  # a file that hangs must not hang those who have given up
                await asyncio.shield(ending)

    async def close(self) -> None:
        """Close every connection, those of open snapshots too; waits for what they are doing. Idempotent."""
        connections, self._all, self._idle = self._all, set(), []
        for connection in connections:
            with suppress(sqlite3.Error, ValueError):
                await connection.interrupt()
            with suppress(sqlite3.Error):
                await to_the_end(connection.close())
        await self._background.wait_idle()

    async def _begin(self) -> aiosqlite.Connection:
        """Return a connection with an open transaction that has read. Raises StoreUnavailable."""
        try:
            connection = self._idle.pop() if self._idle else await self._made()
            try:
                await connection.execute_fetchall("BEGIN")
                await connection.execute_fetchall(_FIX)
            except BaseException:
                await self._end(connection)
                raise
        except (sqlite3.Error, ValueError) as error:
            raise unavailable(error) from error
        return connection

    async def _made(self) -> aiosqlite.Connection:
        connection = await self._connect()
        self._all.add(connection)
        return connection

    async def _undo(self, beginning: asyncio.Task[aiosqlite.Connection]) -> None:
        """End a transaction for which nobody waits any more."""
        with suppress(StoreUnavailable):
            await self._end(await beginning)

    async def _end(self, connection: aiosqlite.Connection, snapshot: SQLiteSnapshot | None = None) -> None:
        """End the transaction; a connection that has one even then is closed, not lent again. Raises nothing."""
        if snapshot is not None:
            await snapshot.wait_stopped()
        with suppress(sqlite3.Error, ValueError):
            await connection.execute_fetchall("ROLLBACK")
        if connection not in self._all:
            return  # closed by `close`
        if not connection.in_transaction and len(self._idle) < _IDLE_COUNT_MAX:
            self._idle.append(connection)
            return
        self._all.discard(connection)
        with suppress(sqlite3.Error):
            await connection.close()
