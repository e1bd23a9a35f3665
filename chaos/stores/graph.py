"""The graph database behind a supervised child process, with a watchdog on every request.

A hang is a real way to fail for these engines, so a request that is not answered in time ends the child with
SIGKILL, and so does any error inside a transaction. The supervisor starts the next child at once, and keeps
trying while the file is still locked by the one that is dying.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos._channel import Channel, ChannelClosed, RemoteError
from chaos._process import Child, spawn_python
from chaos.errors import ChaosError, HarnessError, StoreInDoubt, StoreUnavailable
from chaos.stores import policies
from chaos.stores.graph_desk import READING_THREADS
from chaos.stores.graph_engine import Statement
from chaos.stores.graph_readers import GraphReaders, GraphSnapshot

_NAME = "graph"
_FILE = "graph.db"
_DAMAGE = ("corrupt", "checksum", "not a valid", "bad_alloc")
_PASSING = ("io exception", "lock", "no space", "memory", "buffer manager", "permission", "too many open")
"""Words in what an engine says when something around the file is to blame, and may pass."""

_DAMAGE_COUNT_MAX = 3
_READS = ("applied", "connect", "disconnect", "read", "begin", "end")
_HARMLESS = ("Refused", "Dropped")
"""Kinds of errors after which the child goes on: nothing was done, or only a reading failed."""


class GraphRejected(StoreUnavailable):
    """The engine refused a statement because of its words or of the data; asked again it would do the same."""


@dataclass(frozen=True)
class GraphState:
    """What a child found when it opened the file.

    generation counts the children, so a change means that everything in memory is to be read again. applied
    is the highest number of an applied transaction, None when the database was never seeded. count is how
    many there are, the seed's 0 among them.
    """

    generation: int
    applied: int | None
    count: int


@dataclass(frozen=True)
class _Running:
    process: Child
    channel: Channel
    state: GraphState


class GraphStore:
    """The database file in `folder`, served by a child of this process."""

    name = _NAME

    def __init__(
        self,
        folder: Path,
        *,
        engine: str = "kuzu",
        buffer_pool_mb: int = 64,
        max_db_size_mb: int = 1024,
        log: Path,
        call_timeout_s: float = 2.0,
        open_timeout_s: float = 15.0,
        on_child: Callable[[int | None], None] = lambda _: None,
        can_rebuild: Callable[[], bool] = lambda: False,
    ) -> None:
        """Keep the settings; `open` starts the first child.

        log: file for the child's output. call_timeout_s, open_timeout_s: the watchdog's patience. on_child is
        told each child's pid, and None when it has ended. can_rebuild: whether the content can be made again
        from elsewhere; then a file that cannot be opened is set aside after a few attempts.
        """
        self._path = folder / _FILE
        self._settings = {
            "engine": engine,
            "path": str(self._path),
            "buffer_pool_mb": buffer_pool_mb,
            "max_db_size_mb": max_db_size_mb,
        }
        self._log = log
        self._call_timeout_s = call_timeout_s
        self._open_timeout_s = open_timeout_s
        self._on_child = on_child
        self.can_rebuild = can_rebuild
        self._running: _Running | None = None
        self._ready = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._calls: set[asyncio.Task[Any]] = set()
        self._readers = GraphReaders(self, concurrent_count=READING_THREADS)
        self._supervisor: asyncio.Task[None] | None = None
        self._generations = itertools.count(1)
        self._damage_count = 0
        self._why_not_ready = "not open"

    @property
    def state(self) -> GraphState | None:
        """What the running child found at its start; None while there is none."""
        return self._running.state if self._running else None

    def open(self) -> None:
        """Start the supervisor, which starts the child. Returns at once; see `wait_ready`."""
        assert self._supervisor is None
        self._ready.clear()
        self._supervisor = asyncio.get_running_loop().create_task(self._supervise())
        self._supervisor.add_done_callback(lambda _: self._ready.set())  # whoever waits is to learn of its death

    async def wait_ready(self, timeout_s: float) -> GraphState:
        """Wait until a child serves the database. Safe to cancel.

        Raises StoreUnavailable after `timeout_s`, and HarnessError when the supervisor has died of an error that
        nobody foresaw: no child will ever be started again.
        """
        return (await self.wait_child(timeout_s)).state

    async def wait_child(self, timeout_s: float) -> _Running:
        """As `wait_ready`; returns what stands for the child in `ask`."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._running is None:
                    self._check_supervisor()
                    await self._ready.wait()
        except TimeoutError:
            raise StoreUnavailable(_NAME, f"not ready within {timeout_s:g} s: {self._why_not_ready}") from None
        return self._running

    async def query(
        self, cypher: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> list[list[Any]]:
        """Run one reading statement in a transaction of its own; waits for a child that is starting.

        Raises StoreUnavailable. Cancellation: safe; the statement runs to its end or to the watchdog.
        """
        return await self._readers.query(cypher, parameters or {}, timeout_s or self._call_timeout_s)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[GraphSnapshot]:
        """Give an object whose `query` reads the state of this moment for as long as the block is open.

        Each snapshot has a connection of its own inside the child; there may be several at once, beside the writer.
        Raises StoreUnavailable when it cannot be opened, and from each query once the child has died. It is ended
        when the block is left, however that happens. Cancellation: safe, also inside `begin`; the end goes on in
        the background then. kuzu makes no checkpoint while one is open, so hold it for a moment, not for hours.
        """
        async with self._readers.snapshot(self._call_timeout_s) as snapshot:
            yield snapshot

    async def write(self, statements: Sequence[Statement]) -> None:
        """Run `statements` in one transaction. Raises StoreUnavailable (gone) or StoreInDoubt; at most once."""
        await self._call("write", {"statements": [list(statement) for statement in statements]})

    async def seed(self, schema: Sequence[str], statements: Sequence[Statement]) -> None:
        """Create the schema and the first rows in a new database; also marks number 0 as applied.

        `schema` must tolerate being run again (IF NOT EXISTS), since only `statements` are one transaction.
        """
        arguments = {"schema": list(schema), "statements": [list(statement) for statement in statements]}
        await self._call("seed", arguments, timeout_s=self._open_timeout_s)

    async def checkpoint(self) -> bool:
        """Move the log into the database file; False when a reader was in the way. Raises StoreInDoubt."""
        made: bool = await self._call("checkpoint", {})
        return made

    async def applied(self) -> int | None:
        """Return the number of the last applied transaction; None before the seed. Raises StoreUnavailable."""
        number: int | None = await self._call("applied", {})
        return number

    async def apply(
        self, csn: int, previous: int, token: str, statements: Sequence[Statement], *, checked: bool = True
    ) -> str:
        """Apply a committed transaction once, together with its number; return the outcome.

        "applied"; "already", when this or a later number is there; "gap", when `previous` is not. `checked`
        False leaves the question out (planted bugs need that). Raises StoreUnavailable or StoreInDoubt.
        """
        return await self.apply_all([(csn, previous, token, statements)], checked=checked)

    async def apply_all(
        self, rows: Sequence[tuple[int, int, str, Sequence[Statement]]], *, checked: bool = True
    ) -> str:
        """Apply committed transactions that follow each other in one: each has number, the one before, token, writes.

        What was applied before is left out. Returns and raises what `apply` does; "already" means all of them.
        """
        told = [
            {"csn": csn, "previous": previous, "token": token, "statements": [list(one) for one in statements]}
            for csn, previous, token, statements in rows
        ]
        reply: dict[str, Any] = await self._call("apply", {"rows": told, "checked": checked})
        return str(reply["outcome"])

    async def close(self) -> None:
        """End the child: politely, so that it checkpoints, then with SIGKILL. Idempotent."""
        if self._supervisor is None:
            return
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)
        self._supervisor = None
        running, self._running = self._running, None
        if running is not None:
            try:
                await running.channel.call("close", timeout_s=self._call_timeout_s)
                running.channel.close()
                await running.process.wait(1.0)
            except (HarnessError, TimeoutError):
                pass  # it is killed below; the log in the file is as good as a checkpoint
            finally:
                running.channel.close()
                await running.process.kill()
                self._on_child(None)
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._readers.wait_idle()

    async def set_aside(self) -> None:
        """Rename the database's files and start over with an empty one; the content must be made elsewhere.

        The files stay beside the new ones, as evidence. Raises StoreUnavailable when no child runs just now, or
        when the files cannot be renamed; then some may have been.
        """
        async with self._one_at_a_time:
            running = self._running
            if running is None:
                raise StoreUnavailable(_NAME, self._why_not_ready)
            try:
                self._rename_files()
            except OSError as error:
                raise StoreUnavailable(_NAME, f"setting the file aside failed: {error}") from error
            finally:
                await self._discard(running)

    def _rename_files(self) -> None:
        number = next(n for n in itertools.count(1) if not self._path.with_name(f"broken-{n}").exists())
        place = self._path.with_name(f"broken-{number}")
        place.mkdir()
        for file in self._path.parent.glob(f"{_FILE}*"):
            file.rename(place / file.name)

    async def _call(self, op: str, arguments: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """Ask the child in a task of its own, so that a cancelled caller never leaves a busy child unwatched."""
        patience_s = timeout_s or self._call_timeout_s
        task = asyncio.get_running_loop().create_task(self._ask(op, arguments, patience_s))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def _ask(self, op: str, arguments: dict[str, Any], patience_s: float) -> Any:
        await self.wait_ready(patience_s)
        async with self._one_at_a_time:
            if self._running is None:
                raise StoreUnavailable(_NAME, self._why_not_ready)
            return await self.ask(self._running, op, arguments, patience_s)

    async def ask(self, child: object, op: str, arguments: Mapping[str, Any], patience_s: float) -> Any:
        """Ask `child`, which `wait_child` returned, and no other. Raises StoreUnavailable or StoreInDoubt."""
        running = self._running
        if running is None or running is not child:
            raise StoreUnavailable(_NAME, f"{op}: the child that was asked is gone; {self._why_not_ready}")
        try:
            return await running.channel.call(op, dict(arguments), timeout_s=patience_s)
        except (ChannelClosed, RemoteError, TimeoutError) as error:
            if not (isinstance(error, RemoteError) and error.kind in _HARMLESS):
                await self._discard(running)
            raise self._translate(op, error, patience_s) from error

    def _translate(self, op: str, error: Exception, patience_s: float) -> ChaosError:
        """Say what is known: a reading changed nothing; a writing is gone only when the engine said so in time."""
        text = f"{op}: no answer within {patience_s:g} s" if isinstance(error, TimeoutError) else f"{op}: {error}"
        gone = isinstance(error, RemoteError) and error.kind in ("Refused", "Broken") and op != "seed"
        if isinstance(error, RemoteError) and op == "apply" and _blames_the_statement(error):
            return GraphRejected(_NAME, text)
        return StoreUnavailable(_NAME, text) if gone or op in _READS else StoreInDoubt(_NAME, text)

    async def _discard(self, running: _Running) -> None:
        """Kill a child that is unfit or silent; the supervisor sees its end and starts the next one."""
        if self._running is running:
            self._running = None
            self._ready.clear()
        await running.process.kill()

    def _check_supervisor(self) -> None:
        if self._supervisor is None:
            raise StoreUnavailable(_NAME, "closed")
        if self._supervisor.done():
            error = None if self._supervisor.cancelled() else self._supervisor.exception()
            if error is None:
                raise StoreUnavailable(_NAME, "closed")
            raise HarnessError(f"{_NAME}: the supervisor died: {error!r}") from error

    async def _supervise(self) -> None:
        """Keep a child running until cancelled."""
        while True:
            async for attempt in policies.graph_restart():
                with attempt:
                    running = await self._start()
            self._damage_count = 0
            self._running = running
            self._ready.set()
            await running.channel.wait_closed()
            self._running = None
            self._ready.clear()
            self._why_not_ready = "the child ended and is being replaced"
            running.channel.close()
            self._on_child(None)
            await running.process.kill()

    async def _start(self) -> _Running:
        """Start one child and let it open the file. Raises StoreUnavailable; then nothing of it is left."""
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = spawn_python(_NAME, "chaos.stores.graph_child", [], log=self._log, sock=theirs)
                except BaseException:
                    ours.close()
                    raise
            return await self._let_open(process, ours)
        except OSError as error:  # too many processes or descriptors, a full disk: it may pass
            self._why_not_ready = f"starting failed: {error}"
            raise StoreUnavailable(_NAME, self._why_not_ready) from error

    async def _let_open(self, process: Child, ours: socket.socket) -> _Running:
        channel = None
        try:
            self._on_child(process.pid)
            channel = await Channel.open(ours)
            found = await channel.call("open", self._settings, timeout_s=self._open_timeout_s)
        except BaseException as error:
            await process.kill()
            if channel is None:
                ours.close()
            else:
                channel.close()
            self._on_child(None)
            if isinstance(error, HarnessError | TimeoutError):
                self._note_damage(error, process.status)
                raise StoreUnavailable(_NAME, self._why_not_ready) from error
            raise
        state = GraphState(next(self._generations), found["applied"], found["count"])
        return _Running(process, channel, state)

    def _note_damage(self, error: Exception, status: int | None) -> None:
        """Count openings that failed because of what is in the file; after a few, set the file aside."""
        self._why_not_ready = f"opening failed (status {status}): {str(error) or type(error).__name__}"
        if _tells_damage(error, status):
            self._damage_count += 1
        if self._damage_count >= _DAMAGE_COUNT_MAX and self.can_rebuild():
            self._damage_count = 0
            self._rename_files()


def _tells_damage(error: Exception, status: int | None) -> bool:
    """Tell whether an opening failed because of what is in the files; `status` is that of the child, None if it lives.

    Engines have no word of their own for most damage: kuzu says "unordered_map::at" when the database was lost by name
    and its log was not. So whatever the engine says counts, except what is known to come from elsewhere.
    """
    if isinstance(error, ChannelClosed):
        return status is not None and status < 0 and status != -signal.SIGKILL
    text = str(error).lower()
    said = isinstance(error, RemoteError) and error.kind == "Broken" and not any(word in text for word in _PASSING)
    return said or any(word in text for word in _DAMAGE)


def _blames_the_statement(error: RemoteError) -> bool:
    """Tell whether an engine's error comes from a statement, and not from what is around the file."""
    text = error.text.lower()
    return error.kind == "Broken" and not any(word in text for word in (*_PASSING, *_DAMAGE))
