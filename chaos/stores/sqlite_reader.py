"""A read-only connection of SQLite, for single statements and for snapshots.

A statement that was handed to a connection's thread runs whether or not somebody waits for it. So when its caller is
cancelled it is interrupted until it is over, and nothing else is asked of the connection before: an interrupt that
comes late would hit the next statement.

In WAL mode the first read inside a transaction fixes what all later ones see. BEGIN alone fixes nothing, so one
read is part of the beginning (sqlite.org, "Isolation In SQLite").
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress

import aiosqlite

from chaos.errors import StoreUnavailable
from chaos.stores.background import Background
from chaos.stores.sqlite_calls import NAME, Parameters, Row, stop, to_the_end, unavailable

_FIX = "SELECT count(*) FROM sqlite_master"


class SQLiteReader:
    """One connection; statements run one after the other. What a pool of them asks is in `clean` and `sound`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        """Take over an open connection that cannot write."""
        self._connection = connection
        self._background = Background()
        self._one_at_a_time = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one statement and return its rows.

        Raises StoreUnavailable. Cancellation: the caller is free at once; the statement is interrupted meanwhile.
        """
        async with self._one_at_a_time:
            await self._wait_stopped()
            task = self._background.start(self._connection.execute_fetchall(sql, parameters))
            try:
                return list(await asyncio.shield(task))  # type: ignore[arg-type]  # rows are tuples here
            except asyncio.CancelledError:
                self._stopping = self._background.start(stop(self._connection, task))
                raise
            except (sqlite3.Error, ValueError) as error:
                raise unavailable(error) from error

    async def begin(self) -> None:
        """Begin a read transaction and fix what it sees. Raises StoreUnavailable; `clean` then."""
        await self.fetch("BEGIN")
        await self.fetch(_FIX)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; False when the connection is closed."""
        try:
            return self._connection.in_transaction
        except ValueError:
            return False

    def sound(self) -> bool:
        """Tell whether the next user would find it open and without a transaction."""
        try:
            return not self._connection.in_transaction
        except ValueError:
            return False

    async def clean(self) -> bool:
        """Wait until a cancelled statement is over, and roll back; tell whether that left it as new."""
        await self._wait_stopped()
        if self.in_transaction:
            with suppress(StoreUnavailable):
                await self.fetch("ROLLBACK")
        return self.sound()

    async def check(self) -> bool:
        """Ask it something. Raises StoreUnavailable."""
        return await self.fetch("SELECT 1") == [(1,)]

    async def close(self) -> None:
        """Close the connection, interrupting what it does. Errors are dropped; waits to the end."""
        closing = self._background.start(self._connection.close())
        await to_the_end(stop(self._connection, closing))

    async def _wait_stopped(self) -> None:
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
            self._stopping = None


class SQLiteSnapshot:
    """The database as it was at one moment; made by `SQLiteStore.snapshot`, used while its block is open."""

    def __init__(self, reader: SQLiteReader, halted: Callable[[], str | None]) -> None:
        """Read with `reader`, where a transaction is open; `halted` says why the store refuses to read."""
        self._reader = reader
        self._halted = halted
        self.ended = False

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one reading statement and return its rows; it sees the state of the moment when the snapshot began.

        Raises StoreUnavailable, also when the store was halted, closed or reopened since; an error of the statement
        leaves the snapshot as it was. Cancellation: the statement is interrupted, and the snapshot stays usable.
        """
        why = self._halted()
        if why is not None:
            raise StoreUnavailable(NAME, f"halted: {why}")
        if self.ended or not self._reader.in_transaction:
            raise StoreUnavailable(NAME, "the snapshot has ended")
        return await self._reader.fetch(sql, parameters)
