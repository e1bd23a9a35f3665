"""SQLite through aiosqlite: one writer, several read-only readers, and errors that say what is known.

Settings and their reasons:
- WAL mode, and `PRAGMA synchronous` as declared: with FULL each commit syncs the log once.
- One writer behind a lock; the busy handler is kept only against other processes (it is a lottery, not a queue).
- `wal_autocheckpoint=0`: only the writer checkpoints, on its own schedule, and it is the last to close. Versions
  3.7.0 to 3.51.2 may corrupt the log when two connections write and checkpoint at the same instant.
- `mmap_size=0`, so that every access is a call that can fail, not a signal.
- `isolation_level=None`: transactions are written out, BEGIN IMMEDIATE for every writer.

A failed COMMIT is either SQLITE_FULL, after which the transaction is certainly gone, or it is in doubt: when
the sync of the log fails, SQLite rolls back, yet the frames are in the file and come back when the log is
read again. Then the store halts until `reopen`, which reads the log anew and so settles the matter.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import aiosqlite

from chaos.errors import StoreError, StoreInDoubt, StoreUnavailable
from chaos.stores.pool import Pool, Trade
from chaos.stores.pool_model import PoolReport, PoolSettings
from chaos.stores.sqlite_calls import (
    NAME,
    ConstraintViolated,
    Parameters,
    Row,
    Value,
    ended,
    to_the_end,
    unavailable,
)
from chaos.stores.sqlite_reader import SQLiteReader, SQLiteSnapshot

_NAME = NAME
_FILE = "main.db"
_PATIENCE_S = 5.0
"""How long a reading waits for a connection where no pool was declared."""

__all__ = ["ConstraintViolated", "Parameters", "Row", "SQLiteSnapshot", "SQLiteStore", "Value", "WriteTransaction"]

Result = TypeVar("Result")


def _hop(connection: aiosqlite.Connection, function: Callable[[sqlite3.Connection], Result]) -> Awaitable[Result]:
    """Run `function` on the connection's thread; aiosqlite has no public name for that."""
    hop: Awaitable[Result] = connection._execute(function, connection._conn)  # type: ignore[no-untyped-call]  # noqa: SLF001
    return hop


class WriteTransaction:
    """One open write transaction; made by `SQLiteStore.write`, used by one task."""

    def __init__(self, store: SQLiteStore, connection: aiosqlite.Connection) -> None:
        """Belong to `store`; BEGIN IMMEDIATE has succeeded on `connection`."""
        self._store = store
        self._connection = connection
        self.committed = False
        self.commit_called = False
        """Whether COMMIT was begun: when it was not, nothing of the transaction can ever be there."""

        self._commit_error: BaseException | None = None
        self._judged: BaseException | None = None

    async def execute(self, sql: str, parameters: Parameters = ()) -> None:
        """Run one statement. Raises StoreUnavailable (ConstraintViolated among them); then leave the block."""
        await self.fetch(sql, parameters)

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one statement and return all its rows; sees this transaction's own writes."""
        try:
            return list(await to_the_end(self._connection.execute_fetchall(sql, parameters)))  # type: ignore[arg-type]  # rows are tuples here
        except (sqlite3.Error, ValueError) as error:
            raise unavailable(error) from error

    async def run(
        self,
        function: Callable[[sqlite3.Connection], Result],
        *,
        commit_if: Callable[[Result], bool] | None = None,
    ) -> Result:
        """Run `function` on the writer's thread with its connection: many statements for the price of one hop.

        It must not end the transaction. commit_if: tells from the result whether COMMIT follows in the same hop;
        call `commit` all the same, which then only says what became of it. Raises StoreUnavailable for what SQLite
        raises in `function`, and what else that raises. Cancellation: waits to the end, like `fetch`, and a COMMIT in
        the hop is judged as by `commit`.
        """

        def work(connection: sqlite3.Connection) -> Result:
            result = function(connection)
            if commit_if is not None and commit_if(result):
                self.commit_called = True
                try:
                    connection.execute("COMMIT")
                except sqlite3.Error as error:
                    self._commit_error = error
                else:
                    self.committed = True
            return result

        task, cancellation = await ended(_hop(self._connection, work))
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if commit_if is not None and (self.commit_called or task.cancelled()):
            error = self._judge(error or self._commit_error)
        if cancellation is not None:
            raise cancellation from error
        try:
            return task.result()
        except (sqlite3.Error, ValueError) as error:
            raise unavailable(error) from error

    async def commit(self) -> None:
        """COMMIT, waiting to the end even when cancelled.

        Raises StoreUnavailable when the transaction is certainly gone (the disk was full), StoreInDoubt after
        any other error; the store is halted then. Cancellation: noted in the same way, `committed` says
        whether it took effect, and the error is the cause of the CancelledError.
        """
        if not self.commit_called:
            self.commit_called = True
            task, cancellation = await ended(self._connection.execute_fetchall("COMMIT"))
            error = self._judge(asyncio.CancelledError() if task.cancelled() else task.exception())
            if cancellation is not None:
                raise cancellation from error
        if self._judged is not None:
            raise self._judged

    def _judge(self, error: BaseException | None) -> BaseException | None:
        """Note what became of a COMMIT that has ended with `error`; return the error to raise.

        Whether a transaction is still open proves nothing: SQLite closes it after a failed COMMIT, too.
        """
        if isinstance(error, asyncio.CancelledError):  # by the end of the event loop: the thread goes on
            self._store.halt("COMMIT was left alone")  # and nobody knows with what success
            self._judged = error
            return error
        if error is None:
            self.committed = True
            return None
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            assert isinstance(error, sqlite3.Error)
            told: StoreError = unavailable(error)
        else:
            self._store.halt(f"COMMIT failed with {getattr(error, 'sqlite_errorname', error)}")
            told = StoreInDoubt(_NAME, f"COMMIT: {error}")
        told.__cause__ = error
        self._judged = told
        return told

    async def roll_back(self) -> None:
        """Undo the transaction; halts the store when even that does not work. Never raises a StoreError."""
        if not self._connection.in_transaction:
            return  # some errors roll back by themselves
        with suppress(sqlite3.Error):
            await to_the_end(self._connection.execute_fetchall("ROLLBACK"))
        if self._connection.in_transaction:
            self._store.halt("ROLLBACK failed")


class SQLiteStore:
    """The database file in `folder`. Open it once per process; every method belongs to one event loop."""

    name = _NAME

    def __init__(
        self,
        folder: Path,
        *,
        synchronous: str = "FULL",
        readers: int = 2,
        pool: PoolSettings | None = None,
        snapshots: int = 64,
        busy_timeout_s: float = 0.25,
        checkpoint_bytes: int = 4 * 1024 * 1024,
    ) -> None:
        """Keep the settings. The log is checkpointed by `checkpoint_if_due` once it exceeds `checkpoint_bytes`.

        pool: how the readers are shared; without it there are always `readers` of them. snapshots: how many may be
        open at once, on connections that are made when needed.
        """
        self._path = folder / _FILE
        self._synchronous = synchronous
        self._busy_timeout_s = busy_timeout_s
        self._checkpoint_bytes = checkpoint_bytes
        self._writer: aiosqlite.Connection | None = None
        trade = Trade(
            make=self._make_reader,
            close=SQLiteReader.close,
            check=SQLiteReader.check,
            clean=SQLiteReader.clean,
            sound=SQLiteReader.sound,
        )
        fixed = PoolSettings(min_size=readers, max_size=readers, acquire_timeout_s=_PATIENCE_S)
        self._readers = Pool("sqlite.readers", pool or fixed, trade)
        self._snapshots = Pool(
            "sqlite.snapshots", PoolSettings(max_size=snapshots, acquire_timeout_s=_PATIENCE_S), trade
        )
        self._write_lock = asyncio.Lock()
        self._halted: str | None = "not open"

    @property
    def halted(self) -> str | None:
        """Why nothing is read or written until `reopen`; None when open and well."""
        return self._halted

    def halt(self, why: str) -> None:
        """Refuse everything from now on until `reopen`; the first reason is kept."""
        self._halted = self._halted or why

    async def open(self, before_readers: Callable[[], Awaitable[None]] | None = None) -> None:
        """Connect the writer, then the readers. Raises StoreUnavailable; then nothing is left open.

        `before_readers` runs when only the writer is connected: what it commits is seen, and synced, before
        anybody reads.
        """
        try:
            self._writer = await self._connect(read_only=False)
            [(found,)] = await self._writer.execute_fetchall("PRAGMA quick_check(1)")
            if found != "ok":
                raise StoreUnavailable(_NAME, f"the database is damaged: {found}")
            self._halted = None
            if before_readers is not None:
                await before_readers()
            await self._snapshots.open()  # makes none, so that whoever finds a reader finds snapshots as well
            await self._readers.open()
        except sqlite3.Error as error:
            await self.close()
            raise unavailable(error) from error
        except BaseException:
            await self.close()
            raise

    async def reopen(self, before_readers: Callable[[], Awaitable[None]] | None = None) -> None:
        """Close every connection and open again, so that the log is read anew from the file."""
        await self.close()
        await self.open(before_readers)

    async def close(self) -> None:
        """Close the readers, then the writer; waits for what they are doing. Idempotent; errors are dropped."""
        self._halted = self._halted or "closed"
        await to_the_end(self._readers.close())
        await to_the_end(self._snapshots.close())
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(sqlite3.Error, ValueError):
                await writer.interrupt()
            with suppress(sqlite3.Error):
                await to_the_end(writer.close())

    def pools(self) -> list[PoolReport]:
        """Return the state of the readers' pool and of the snapshots'."""
        return [self._readers.report(), self._snapshots.report()]

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Read with one statement from the last committed state.

        Raises StoreUnavailable, also while the store is opened and when it is closed before a connection is
        free, and PoolExhausted when none is in time. Cancellation: the statement is interrupted, and the connection
        is lent again only when its thread is done with it.
        """
        self._refuse_when_halted()
        async with self._readers.lend() as lease:
            return await lease.item.fetch(sql, parameters)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SQLiteSnapshot]:
        """Give an object whose `fetch` reads the committed state of this moment for as long as the block is open.

        Each snapshot has a read-only connection of its own, so it takes none from `fetch`; there may be many. It
        sees every commit that was acknowledged before the block was entered, and none that begins afterwards.
        Raises StoreUnavailable, from `fetch` too once the store was halted or reopened. Cancellation: safe, at every
        await; the connection is lent again only without a transaction. Checkpoints copy nothing newer than the
        oldest snapshot, so the log grows while one is open.
        """
        self._refuse_when_halted()
        async with self._snapshots.lend() as lease:
            reader = lease.item
            try:
                await reader.begin()
            except StoreUnavailable:
                self._snapshots.release(lease, broken=True)
                raise
            snapshot = SQLiteSnapshot(reader, lambda: self._halted)
            try:
                yield snapshot
            except asyncio.CancelledError:
                snapshot.ended = True
                raise  # the pool cleans up; a file that hangs must not hang those who have given up
            except BaseException:
                snapshot.ended = True
                await reader.clean()
                raise
            snapshot.ended = True
            await reader.clean()

    @asynccontextmanager
    async def write(self, *, begin: bool = True) -> AsyncIterator[WriteTransaction]:
        """Begin a write transaction; on leaving the block it is rolled back unless it was committed.

        begin False leaves BEGIN IMMEDIATE to what the block runs first, which saves a hop to the writer's thread.

        Raises StoreUnavailable when halted or when the write lock is held by another process. Cancellation:
        safe; the connection never keeps an open transaction.
        """
        async with self._write_lock:
            self._refuse_when_halted()
            assert self._writer is not None
            transaction = WriteTransaction(self, self._writer)
            try:
                if begin:
                    await transaction.execute("BEGIN IMMEDIATE")
                yield transaction
            finally:
                if not transaction.committed and self._halted is None:
                    await transaction.roll_back()

    async def checkpoint_if_due(self) -> bool:
        """Copy the log into the database when it has grown enough; tell whether it was tried.

        A failed checkpoint loses nothing, since the log stays; it is tried again next time.
        """
        log = self._path.with_name(f"{_FILE}-wal")
        try:
            due = log.stat().st_size > self._checkpoint_bytes
        except FileNotFoundError:
            return False
        if due:
            with suppress(StoreError):
                await self.checkpoint("PASSIVE")
        return due

    async def checkpoint(self, mode: str) -> None:
        """Checkpoint on the writer; mode is PASSIVE or TRUNCATE. Raises StoreUnavailable."""
        async with self._write_lock:
            self._refuse_when_halted()
            assert self._writer is not None
            try:
                rows = list(await to_the_end(self._writer.execute_fetchall(f"PRAGMA wal_checkpoint({mode})")))
            except (sqlite3.Error, ValueError) as error:
                raise unavailable(error) from error
            if rows[0][0] and mode != "PASSIVE":
                raise StoreUnavailable(_NAME, "the checkpoint was held up by a reader")

    def _refuse_when_halted(self) -> None:
        if self._halted is not None:
            raise StoreUnavailable(_NAME, f"halted: {self._halted}")

    async def _make_reader(self) -> SQLiteReader:
        try:
            return SQLiteReader(await self._connect(read_only=True))
        except sqlite3.Error as error:
            raise unavailable(error) from error

    async def _connect(self, *, read_only: bool) -> aiosqlite.Connection:
        connection = await aiosqlite.connect(self._path, isolation_level=None, timeout=self._busy_timeout_s)
        try:
            [(answer,)] = await connection.execute_fetchall("PRAGMA journal_mode=WAL")
            if answer != "wal":
                raise StoreUnavailable(_NAME, f"journal_mode={answer} after asking for wal")
            for pragma in self._pragmas(read_only=read_only):
                await connection.execute_fetchall(f"PRAGMA {pragma}")
        except BaseException:
            await to_the_end(connection.close())
            raise
        return connection

    def _pragmas(self, *, read_only: bool) -> tuple[str, ...]:
        common = (f"synchronous={self._synchronous}", "wal_autocheckpoint=0", "mmap_size=0", "foreign_keys=ON")
        # A log that was checkpointed is begun anew and keeps its length; cut to this it tells again when it is due.
        return (*common, "query_only=ON") if read_only else (*common, f"journal_size_limit={self._checkpoint_bytes}")
