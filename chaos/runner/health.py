"""Probes: is every store answering, are transactions being acknowledged, do the stores agree."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from chaos.checkers.outcomes import counters_of, is_apart
from chaos.history.model import StoreImage
from chaos.history.writer import HistoryWriter
from chaos.runner.supervisor import WORKER_ERRORS, Supervisor

PING_TIMEOUT_S = 1.5
LOOK_S = 0.3
"""How long a fault at a time is held back for a look at how the system is: one that is well answers sooner."""

PROBE_EVERY_S = 0.05
QUIET_PROBE_EVERY_S = 1.0
AGREE_EVERY_S = 0.1
READ_TIMEOUT_S = 15.0

Occasion = Literal["before", "after", "health", "healed"]
Reading = Literal["final", "reopened"]


class Health:
    """Asks the system how its stores are, and writes the answers down."""

    def __init__(self, supervisor: Supervisor, history: HistoryWriter, stores: tuple[str, ...]) -> None:
        """`stores` are the names that must answer."""
        self._supervisor = supervisor
        self._history = history
        self._stores = stores
        self._task: asyncio.Task[None] | None = None
        self.well: bool | None = None
        """What the latest probe found; None before the first."""
        self._looks: set[asyncio.Task[bool]] = set()
        self._stopped = False

    async def ping(self, occasion: Occasion, fault: str | None = None) -> bool:
        """Ping every store once through the system, record it, and tell whether all answered.

        `fault` is the one after whose heal it is.
        """
        answers: Mapping[str, bool] = {}
        if self._supervisor.ready.is_set():
            try:
                answers = await self._supervisor.call("ping", None, PING_TIMEOUT_S)
            except WORKER_ERRORS:
                answers = {}
        stores = {store: bool(answers.get(store)) for store in self._stores}
        ok = self.well = all(stores.values())
        self._history.append("event", "probe", fault=fault, value={"ok": ok, "stores": stores, "occasion": occasion})
        return ok

    def watch(self, disturbed: Callable[[int], bool]) -> None:
        """Probe in the background: every 0.05 s after a fault began or ended, until all answer, else every second."""
        self._task = asyncio.get_running_loop().create_task(self._watch(disturbed))

    async def look(self) -> bool | None:
        """Ping, and wait for the answer for LOOK_S; without one the latest probe has to do."""
        try:
            async with asyncio.timeout(LOOK_S):
                return await self.ping("health")
        except TimeoutError:
            return self.well

    def look_soon(self, fault_id: str) -> None:
        """Ping in the background, now that this fault is healed; nothing after `stop`."""
        if not self._stopped:
            task = asyncio.get_running_loop().create_task(self.ping("healed", fault_id))
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)

    async def stop(self) -> None:
        """End the background probes. Idempotent."""
        self._stopped = True
        for look in self._looks:
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _watch(self, disturbed: Callable[[int], bool]) -> None:
        last_ns = 0
        ok = True
        while True:
            due_s = PROBE_EVERY_S if not ok or disturbed(last_ns) else QUIET_PROBE_EVERY_S
            if time.monotonic_ns() - last_ns >= due_s * 1e9:
                last_ns = time.monotonic_ns()
                ok = await self.ping("health")
            await asyncio.sleep(PROBE_EVERY_S)

    async def read_back(self) -> dict[str, StoreImage]:
        """Read every store; raises ChannelClosed, RemoteError or TimeoutError."""
        answer = await self._supervisor.call("read_back", None, READ_TIMEOUT_S)
        return msgspec.convert(answer, dict[str, StoreImage])

    async def record_reading(self, process: int, occasion: Reading) -> None:
        """Read every store as client `process` and record what they hold, or why they could not be read."""
        self._history.append("invoke", "read_back", process=process, value={"occasion": occasion})
        try:
            images = await self.read_back()
        except WORKER_ERRORS as error:
            text = str(error) or type(error).__name__
            self._history.append("info", "read_back", process=process, error=text)
            return
        value = {"occasion": occasion, "stores": msgspec.to_builtins(images)}
        self._history.append("ok", "read_back", process=process, value=value)

    async def agreement(self, phase: Literal["converging", "holding"]) -> bool:
        """Read every store, record the digests, and tell whether all hold the same."""
        try:
            images = await self.read_back()
        except WORKER_ERRORS as error:
            value: dict[str, Any] = {"agreed": False, "digests": {}, "phase": phase}
            self._history.append("event", "agreement", value=value, error=str(error))
            return False
        digests = {store: digest(image) for store, image in sorted(images.items())}
        agreed = len(set(digests.values())) == 1 and not any(map(is_apart, counters_of(images).values()))
        self._history.append("event", "agreement", value={"agreed": agreed, "digests": digests, "phase": phase})
        return agreed


def digest(image: StoreImage) -> str:
    """Return a short digest of the marks of a store and of what it refused, independent of their order."""
    lines = sorted(f"{token}\0{mark}" for token, marks in image.marks.items() for mark in marks)
    lines += sorted(f"{token}\1{error}" for token, errors in image.refused.items() for error in errors)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
