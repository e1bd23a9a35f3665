"""The graph database behind a supervised child process, with a watchdog on every request.

A hang is a real way to fail for these engines, so a request that is not answered in time ends the child with
SIGKILL, and so does any error inside a transaction. The supervisor starts the next child at once, and keeps
trying while the file is still locked by the one that is dying.

With a `Recovery` a child opens only what is known to be whole, and is filled before anybody else may ask it.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from chaos._channel import Channel, ChannelClosed, RemoteError
from chaos._process import Child
from chaos.errors import HarnessError, StoreError, StoreUnavailable
from chaos.stores import policies
from chaos.stores.background import Background
from chaos.stores.graph_desk import READING_THREADS
from chaos.stores.graph_engine import Statement
from chaos.stores.graph_files import Base, Plan
from chaos.stores.graph_launch import StartChild, spawn
from chaos.stores.graph_readers import GraphReaders, GraphSnapshot
from chaos.stores.graph_terms import GraphState, Recovery, Told, to_tell, translated
from chaos.stores.pool_model import PoolReport, PoolSettings

_NAME = "graph"
_FILE = "graph.db"
_PROOF = "proof"
_HARMLESS = ("Refused", "Dropped")
"""Kinds of errors after which the child goes on: nothing was done, or only a reading failed."""


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
        open_timeout_s: float = 5.0,
        on_child: Callable[[int | None], None] = lambda _: None,
        pool: PoolSettings | None = None,
        snapshots: int = 64,
        start_child: StartChild | None = None,
    ) -> None:
        """Keep the settings; `open` starts the first child.

        log: file for the child's output. call_timeout_s: the watchdog's patience; open_timeout_s: the same for
        opening, closing and whatever moves many rows at once. on_child is told each child's pid, and None when it
        has ended. start_child: in place of a new interpreter, what gives a child and our end of its channel, or raises
        OSError. Without a `recovery`, which may be set before `open`, a child opens what is there. pool: how reading
        connections are shared; snapshots: how many may be open at once, on connections beside those.
        """
        self.engine = engine
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
        self._start_child = start_child or spawn
        self.recovery: Recovery | None = None
        self._running: _Running | None = None
        self._ready = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._calls = Background()
        wait_s = 2 * call_timeout_s  # the child may be starting
        self._readers = GraphReaders(
            self,
            concurrent_count=READING_THREADS,
            patience_s=call_timeout_s,
            pool=pool or PoolSettings(acquire_timeout_s=wait_s),
            snapshots=PoolSettings(max_size=snapshots, acquire_timeout_s=wait_s),
        )
        self._supervisor: asyncio.Task[None] | None = None
        self._generations = itertools.count(1)
        self._why_not_ready = "not open"

    @property
    def state(self) -> GraphState | None:
        """What the running child found at its start; None while there is none."""
        return self._running.state if self._running else None

    def open(self) -> None:
        """Start the supervisor, which starts the child. Returns at once; see `wait_ready`."""
        assert self._supervisor is None
        self._ready.clear()
        self._readers.start()
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
        async with self._readers.snapshot() as snapshot:
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

    async def apply_all(self, rows: Sequence[Told], *, checked: bool = True) -> str:
        """Apply committed transactions that follow each other in one: each has number, the one before, token, writes.

        What was applied before is left out. Returns and raises what `apply` does; "already" means all of them.
        """
        told = [to_tell(row) for row in rows]
        reply: dict[str, Any] = await self._call("apply", {"rows": told, "checked": checked})
        return str(reply["outcome"])

    async def close(self) -> str | None:
        """End the child: politely, so that it checkpoints, then with SIGKILL. Idempotent.

        Returns the seal of the files when it has closed them in peace, else None.
        """
        running = await self._unsupervised()
        seal: str | None = None
        if running is not None:
            try:
                seal = await running.channel.call("close", timeout_s=self._open_timeout_s)
                running.channel.close()
                await running.process.wait(1.0)
            except (HarnessError, TimeoutError):
                pass  # it is killed below; the log in the file is as good as a checkpoint
            finally:
                running.channel.close()
                await running.process.kill()
                self._on_child(None)
        await self._calls.wait_idle()
        await self._readers.close()
        return seal

    async def abandon(self) -> None:
        """Kill the child and start none any more; the files stay as they are. Idempotent."""
        running = await self._unsupervised()
        if running is not None:
            await running.process.kill()
            running.channel.close()
            self._on_child(None)

    async def renew(self) -> None:
        """Kill the child that serves now, so that the next one is begun from what the recovery plans."""
        if self._running is not None:
            await self._discard(self._running)

    async def _unsupervised(self) -> _Running | None:
        """End the supervisor, and return the child that runs now, if one does."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        running, self._running = self._running, None
        self._why_not_ready = "it was given up"
        return running

    async def make_base(self, name: str, keep: Sequence[str]) -> tuple[Base, Mapping[str, int]]:
        """Checkpoint and copy the database; return the copy, and how many rows each table has.

        The caller sees to it that nothing is applied meanwhile. Bases whose file is not in `keep` go. Raises
        StoreUnavailable; then there is no new base.
        """
        arguments = {"name": name, "keep": list(keep)}
        made = await self._call("base", arguments, timeout_s=self._open_timeout_s)
        return msgspec.convert(made["base"], Base), made["census"]

    async def prove(self, base: Base, census: Mapping[str, int]) -> None:
        """Open a copy of a base in a process of its own, and count. Raises StoreUnavailable when it is no good."""
        place = self._path.with_name(_PROOF)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        copied = msgspec.structs.replace(base, file=f"../{base.file}")
        settings = {**self._settings, "path": str(place / _FILE), "plan": msgspec.to_builtins(Plan(base=copied))}
        try:
            running = await self._start(settings)
            try:
                found = await running.channel.call("census", timeout_s=self._open_timeout_s)
            except (HarnessError, TimeoutError) as error:
                raise StoreUnavailable(_NAME, f"{base.file} cannot be read: {error}") from error
            finally:
                running.channel.close()
                await running.process.kill()
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if found != census:
            raise StoreUnavailable(_NAME, f"{base.file} holds {found}, not {census}")

    async def _call(self, op: str, arguments: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """Ask the child in a task of its own, so that a cancelled caller never leaves a busy child unwatched."""
        patience_s = timeout_s or self._call_timeout_s
        return await self._calls.follow(self._ask(op, arguments, patience_s))

    async def _ask(self, op: str, arguments: dict[str, Any], patience_s: float) -> Any:
        await self.wait_ready(patience_s)
        async with self._one_at_a_time:
            if self._running is None:
                raise StoreUnavailable(_NAME, self._why_not_ready)
            return await self.ask(self._running, op, arguments, patience_s)

    def is_current(self, child: object) -> bool:
        """Tell whether `child`, which `wait_child` returned, still serves."""
        return child is self._running

    def pools(self) -> list[PoolReport]:
        """Return the state of the readers' pool and of the snapshots'."""
        return self._readers.pools()

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
            raise translated(op, error, patience_s) from error

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
                    running = await self._bring_up()
            self._running = running
            self._ready.set()
            await running.channel.wait_closed()
            self._running = None
            self._ready.clear()
            self._why_not_ready = "the child ended and is being replaced"
            running.channel.close()
            self._on_child(None)
            await running.process.kill()

    async def _bring_up(self) -> _Running:
        """Start a child that may serve. Raises StoreError; then nothing of it is left."""
        try:
            plan = None if self.recovery is None else msgspec.to_builtins(await self.recovery.plan())
            running = await self._start({**self._settings, "plan": plan}, self._on_child)
            return running if self.recovery is None else await self._filled(running, self.recovery)
        except StoreError as error:
            self._why_not_ready = str(error)
            raise

    async def _filled(self, running: _Running, recovery: Recovery) -> _Running:
        async def _ask(op: str, arguments: Mapping[str, Any]) -> Any:
            return await running.channel.call(op, dict(arguments), timeout_s=self._open_timeout_s)

        try:
            applied = await recovery.fill(running.state, _ask)
        except BaseException as error:
            await running.process.kill()
            running.channel.close()
            self._on_child(None)
            if isinstance(error, HarnessError | TimeoutError):
                raise StoreUnavailable(_NAME, f"filling failed: {str(error) or 'no answer'}") from error
            raise
        return replace(running, state=replace(running.state, applied=applied))

    async def _start(
        self, settings: Mapping[str, Any], on_child: Callable[[int | None], None] = lambda _: None
    ) -> _Running:
        """Start one child and let it open the file. Raises StoreUnavailable; then nothing of it is left."""
        try:
            process, ours = self._start_child(self._log)
            return await self._let_open(process, ours, settings, on_child)
        except OSError as error:  # too many processes or descriptors, a full disk: it may pass
            raise StoreUnavailable(_NAME, f"starting failed: {error}") from error

    async def _let_open(
        self, process: Child, ours: socket.socket, settings: Mapping[str, Any], on_child: Callable[[int | None], None]
    ) -> _Running:
        channel = None
        try:
            on_child(process.pid)
            channel = await Channel.open(ours)
            found = await channel.call("open", dict(settings), timeout_s=self._open_timeout_s)
        except BaseException as error:
            await process.kill()
            if channel is None:
                ours.close()
            else:
                channel.close()
            on_child(None)
            if isinstance(error, HarnessError | TimeoutError):
                why = f"opening failed (status {process.status}): {str(error) or type(error).__name__}"
                raise StoreUnavailable(_NAME, why) from error
            raise
        state = GraphState(next(self._generations), found["applied"], found["count"], found["kept"])
        return _Running(process, channel, state)
