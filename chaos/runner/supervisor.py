"""Keeps a worker running: starts it, has it recover, and starts it again whenever it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_exponential,
    wait_fixed,
)

from chaos._channel import Channel, ChannelClosed, RemoteError
from chaos._process import Child, spawn_python
from chaos.errors import HarnessError
from chaos.history.writer import HistoryWriter
from chaos.transactions.system import SiteConfig

OPEN_TIMEOUT_S = 15.0
RECOVER_TIMEOUT_S = 15.0
PEACE_TIMEOUT_S = 5.0
HANG_S = 5.0
"""A worker that owes an answer and says nothing for so long is killed: half of the usual recovery budget.

Longer while it is asked for something that is given more time, such as reading all stores back."""

GHOST_S = 5.0
"""How long a supplanted worker that goes on is waited for until it does something."""

WORKER_ERRORS = (ChannelClosed, RemoteError, TimeoutError)
"""What asking a worker may end with: an observation. Any other error is the harness's own."""


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker process is started with. `armed` tells the phases that it has to ask at, when it is started."""

    location: str
    config: SiteConfig
    armed: Callable[[], Iterable[str]]
    environment: Mapping[str, str]
    log: Path


@dataclass
class Ghost:
    """A worker that was stopped, and has a successor. phases: how many it reached since it goes on."""

    child: Child
    channel: Channel
    phases: int = 0


PhaseHandler = Callable[[dict[str, Any]], Any]


class Supervisor:
    """One worker at a time, and what is known of it.

    `ready` is set while a worker is open and recovered. `in_doubt` gathers the tokens whose outcome is not
    known; every recovery is asked for all of them, and what it settles is written into the history.
    """

    def __init__(
        self,
        plan: WorkerPlan,
        history: HistoryWriter,
        *,
        on_phase: PhaseHandler,
        on_phase_told: Callable[[dict[str, Any]], None],
        on_child: Callable[[Child], None],
        restart_deadline_s: float,
        held: Callable[[], bool],
        on_pid: Callable[[int], None],
    ) -> None:
        """`on_phase` is awaited for phases with a rule, `on_phase_told` hears of the others.

        `held()` tells whether a fault holds the worker still now, so that its silence is no hang. `on_pid` hears
        of every child process that the worker tells of.
        """
        self._plan = plan
        self._history = history
        self._on_phase = on_phase
        self._on_phase_told = on_phase_told
        self._on_child = on_child
        self._restart_deadline_s = restart_deadline_s
        self._held = held
        self._on_pid = on_pid
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False
        self._attempts = 0
        self.ready = asyncio.Event()
        self.in_doubt: set[str] = set()
        self.children: dict[str, int] = {}
        self._ghosts: dict[int, Ghost] = {}
        self._supplanted = asyncio.Event()
        self.child: Child | None = None
        self.channel: Channel | None = None
        self.failure: BaseException | None = None
        """Why the system under test cannot be opened any more: a finding."""
        self.broken: Exception | None = None
        """Why no worker can be kept running any more: a failure of the harness."""
        self.failed = asyncio.Event()
        self._may_start = asyncio.Event()
        self._may_start.set()

    async def start(self, *, set_up: bool) -> None:
        """Start the first worker and keep one running from then on.

        `set_up` creates the schema first. An error of this first start is raised as it is: the system under
        test cannot even begin.
        """
        await self._start_worker(set_up=set_up)
        self._loop_task = asyncio.get_running_loop().create_task(self._keep_running())

    def hold(self) -> None:
        """Start no worker until `release`; one that runs is left alone."""
        self._may_start.clear()

    def release(self) -> None:
        """Let workers be started again."""
        self._may_start.set()

    def supplant(self) -> int:
        """Stop the worker with SIGSTOP, kill its children, and start the next one; return the pid of the stopped one.

        Raises ProcessLookupError when there is none, or it is not open yet.
        """
        if self.child is None or self.channel is None or not self.ready.is_set():
            raise ProcessLookupError("no worker is open that could be supplanted")
        os.kill(self.child.pid, signal.SIGSTOP)
        for pid in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._ghosts[self.child.pid] = Ghost(self.child, self.channel)
        self.ready.clear()
        self._supplanted.set()
        return self.child.pid

    async def stall(self, duration_s: float) -> float:
        """Block the worker's event loop; return for how long it stood still. Raises ProcessLookupError without one."""
        try:
            stalled_s: float = await self.call("stall", {"seconds": duration_s}, duration_s + PEACE_TIMEOUT_S)
        except ChannelClosed as error:
            raise ProcessLookupError("no worker is running that could stand still") from error
        return stalled_s

    async def shift_clock(self, by_s: float) -> int:
        """Shift the worker's wall clock; return how many clocks tell the wrong time. Raises ProcessLookupError."""
        try:
            shifted: int = await self.call("shift_clock", {"seconds": by_s}, PEACE_TIMEOUT_S)
        except ChannelClosed as error:
            raise ProcessLookupError("no worker is running whose clock could jump") from error
        return shifted

    async def resume(self, pid: int) -> int:
        """Let a supplanted worker go on; return how many phases it has reached, as soon as it has reached one."""
        ghost = self._ghosts[pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        policy = AsyncRetrying(
            retry=retry_if_result(lambda done: not done),
            stop=stop_after_delay(GHOST_S),
            wait=wait_fixed(0.02),
            retry_error_callback=lambda _: None,
        )
        await policy(_tells, ghost)
        return ghost.phases

    async def call(self, op: str, args: dict[str, Any] | None, timeout_s: float) -> Any:
        """Ask the present worker; raises ChannelClosed, RemoteError or TimeoutError."""
        if self.channel is None:
            raise ChannelClosed("there is no worker now")
        return await self.channel.call(op, args, timeout_s)

    def arm(self, phases: Iterable[str]) -> None:
        """Have the present worker ask at these phases, and only tell the others."""
        if self.channel is not None:
            self.channel.tell("armed", {"phases": sorted(phases)})

    async def settle(self, timeout_s: float) -> bool:
        """Ask the living worker to resolve what is in doubt; True when nothing is left in doubt."""
        if self.in_doubt:
            with contextlib.suppress(*WORKER_ERRORS):
                self._settled(await self.call("recover", {"tokens": sorted(self.in_doubt)}, timeout_s))
        return not self.in_doubt

    async def restart_in_peace(self, within_s: float = 0.0) -> None:
        """Close the worker tidily and start a new process on the same data; raises when it cannot open.

        Tries again until `within_s` have passed; 0: once.
        """
        await self._stop_loop()
        await self._close_worker()
        self._closing = False
        await self._start_patiently(within_s)
        self.failure = None
        self.failed.clear()
        self._loop_task = asyncio.get_running_loop().create_task(self._keep_running())

    async def stop(self, *, in_peace: bool) -> None:
        """End the worker: tidily first when `in_peace`, by SIGKILL otherwise. Idempotent."""
        await self._stop_loop()
        if in_peace:
            await self._close_worker()
        if self.channel is not None:
            self.channel.close()
        if self.child is not None:
            await self.child.kill()
        self.ready.clear()
        for ghost in self._ghosts.values():
            ghost.channel.close()
            await ghost.child.kill()

    async def _stop_loop(self) -> None:
        self._closing = True
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
            self._loop_task = None

    async def _close_worker(self) -> None:
        self.ready.clear()
        with contextlib.suppress(*WORKER_ERRORS):
            await self.call("close", None, PEACE_TIMEOUT_S)
        if self.channel is not None:
            self.channel.close()
        if self.child is not None and await self.child.wait(PEACE_TIMEOUT_S) is None:
            await self.child.kill()

    async def _keep_running(self) -> None:
        """Keep a worker running until cancelled; what goes wrong is kept in `failure` or `broken`."""
        try:
            await self._replace_workers()
        except Exception as error:  # noqa: BLE001  # nobody awaits this task; the run looks at `broken`
            self.broken = error
            self.failed.set()

    async def _replace_workers(self) -> None:
        """Wait for the worker's end and start the next one, within a deadline for each outage."""
        while True:
            await self._watch()
            await self._observe_end()
            try:
                await self._start_patiently(self._restart_deadline_s)
            except WORKER_ERRORS as error:
                self.failure = error
                self.failed.set()
                return

    async def _start_patiently(self, within_s: float) -> None:
        """Start a worker; when it does not open, another one, until `within_s` have passed. Raises the last error."""
        policy = AsyncRetrying(
            retry=retry_if_exception_type(WORKER_ERRORS),
            stop=stop_after_delay(within_s),
            wait=wait_exponential(multiplier=0.02, max=0.5),
            reraise=True,
        )
        async for attempt in policy:
            with attempt:
                await self._start_worker(set_up=False)

    async def _watch(self) -> None:
        """Return when the worker is gone; kill one that owes an answer and has been silent for HANG_S."""
        assert self.channel is not None
        assert self.child is not None
        while not self.channel.closed and self.child.pid not in self._ghosts:
            await self._until_lost(self.channel, HANG_S / 8)
            silent_s = (time.monotonic_ns() - self.channel.heard_ns) / 1e9
            if self._held():
                self.channel.heard_ns = time.monotonic_ns()
            elif self.channel.waiting and silent_s > max(HANG_S, self.channel.patience_s) and not self.channel.closed:
                self._history.append("event", "worker_hung", value={"silent_s": round(silent_s, 3)})
                await self.child.kill()

    async def _until_lost(self, channel: Channel, timeout_s: float) -> None:
        """Wait until the worker is gone or supplanted, `timeout_s` at most."""
        waiters = [asyncio.ensure_future(event) for event in (channel.wait_closed(), self._supplanted.wait())]
        try:
            await asyncio.wait(waiters, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _observe_end(self) -> None:
        self.ready.clear()
        self.children.clear()
        assert self.child is not None
        if self.child.pid in self._ghosts:
            self._history.append("event", "worker_supplanted")
            return
        if await self.child.wait(PEACE_TIMEOUT_S) is None:
            await self.child.kill()  # it closed its channel and stays: that is a hang
        self._history.append("event", "worker_exited", value={"status": self.child.status})

    async def _start_worker(self, *, set_up: bool) -> None:
        await self._may_start.wait()
        started_ns = time.monotonic_ns()
        self._attempts += 1
        ours, theirs = socket.socketpair()
        try:
            self.child = spawn_python(
                "worker",
                "chaos.runner.worker",
                [],
                log=self._plan.log,
                environment=self._plan.environment,
                sock=theirs,
            )
        finally:
            theirs.close()
        self._on_child(self.child)
        self._supplanted.clear()
        self.channel = await Channel.open(ours, self._handle, partial(self._listen, self.child.pid))
        try:
            await self._open(set_up)
        except BaseException:
            self.channel.close()
            await self.child.kill()
            self._history.append("event", "worker_exited", value={"status": self.child.status})
            raise
        seconds = round((time.monotonic_ns() - started_ns) / 1e9, 4)
        self._history.append("event", "worker_opened", value={"attempt": self._attempts, "seconds": seconds})
        self.ready.set()

    async def _open(self, set_up: bool) -> None:
        config = msgspec.to_builtins(self._plan.config)
        load = {"location": self._plan.location, "config": config, "armed": sorted(self._plan.armed())}
        await self.call("load", load, OPEN_TIMEOUT_S)
        if set_up:
            await self.call("set_up", None, OPEN_TIMEOUT_S)
        await self.call("open", None, OPEN_TIMEOUT_S)
        self._settled(await self.call("recover", {"tokens": sorted(self.in_doubt)}, RECOVER_TIMEOUT_S))

    def _settled(self, outcomes: Mapping[str, str]) -> None:
        for token, outcome in sorted(outcomes.items()):
            if token in self.in_doubt and outcome in ("committed", "aborted"):
                self.in_doubt.discard(token)
                self._history.append("ok", "resolve", token=token, value={"outcome": outcome})

    async def _handle(self, op: str, args: dict[str, Any]) -> Any:
        if op != "phase":
            raise HarnessError(f"the worker asked for {op}, which nobody answers")
        await self._on_phase(args)

    def _listen(self, pid: int, op: str, args: dict[str, Any]) -> None:
        ghost = self._ghosts.get(pid)
        if op == "phase":
            self._on_phase_told(args)
            if ghost is not None:
                ghost.phases += 1
        elif op == "child" and ghost is not None:
            if args["pid"] is not None:
                self._on_pid(args["pid"])  # to be killed with the rest, but no target of faults
        elif op == "sample":
            if ghost is None:
                self._history.append("event", "sample", value=args)
        elif op == "child":
            if args["pid"] is None:
                self.children.pop(args["target"], None)
            else:
                self.children[args["target"]] = args["pid"]
                self._on_pid(args["pid"])


async def _tells(ghost: Ghost) -> bool:
    """Tell whether a supplanted worker was seen to do something, or is gone."""
    return ghost.phases > 0 or ghost.channel.closed
