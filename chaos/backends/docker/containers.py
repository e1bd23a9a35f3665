"""The container of a store while a run has it: stopped, started, frozen, unplugged, bounded, watched."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import docker
import requests.exceptions

from chaos.backends.docker.client import Calls, DaemonError
from chaos.backends.docker.sweep import NO_BOUND_BYTES
from chaos.errors import EnvironmentUnavailable, HarnessError

_ASK_EVERY_S = 0.02
_LOOK_EVERY_S = 0.1
_WATCH_S = 1
"""How long one question for the end of a container stays open; so long may a thread outlive a run."""
_KILL_S = 5.0
_NEARLY = 0.95
"""The share of its bound that memory in use must reach to count as having met it, where the kernel tells no more."""
_CONFLICT = 409
_SIGNALLED = 128


@dataclass(frozen=True)
class Plug:
    """How a container is connected to a network: enough to connect it again in the same way."""

    network: str
    aliases: tuple[str, ...]
    address: str | None
    """The fixed IPv4 address; None when the daemon chooses one each time."""


class StoreContainer:
    """The `Containers` of one store, and the signals to its server.

    A server that ends by itself is started again, as the supervisor of a real machine would; one that a fault has
    ended stays down until it is started or revived.
    """

    def __init__(
        self,
        calls: Calls,
        client: docker.DockerClient,
        container_id: str,
        plug: Plug,
        *,
        ready: Callable[[], Awaitable[None]],
        on_server: Callable[[str, int], None],
    ) -> None:
        """Nothing is done yet. `ready` returns when the server answers; `on_server` hears of its ends and starts."""
        self._calls = calls
        self._api = client.api
        self._id = container_id
        self._plug = plug
        self._ready = ready
        self._on_server = on_server
        self._wanted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._told = ""
        self._bound_before: tuple[int, int] | None = None
        self._oom_kills = 0
        self._switch = asyncio.Lock()

    def keep(self) -> None:
        """Begin to watch over the server, which runs."""
        self._wanted.set()
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def leave(self) -> None:
        """Stop watching. Idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    @property
    def failure(self) -> BaseException | None:
        """Why nobody watches over the server any more; None while all is well."""
        if self._keeper is None or not self._keeper.done() or self._keeper.cancelled():
            return None
        return self._keeper.exception()

    async def state(self) -> dict[str, Any]:
        """Return the daemon's word on the container: Running, Paused, Pid, ExitCode, OOMKilled ..."""
        return dict((await self._inspect())["State"])

    async def stop(self, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL after `grace_s`; it stays down until `start`. Nothing if it is down."""
        self._wanted.clear()
        async with self._switch:
            if not await self._end("SIGTERM", grace_s) and not await self._end("SIGKILL", _KILL_S):
                raise HarnessError(f"the server in container {self._id[:12]} does not end")

    async def start(self) -> None:
        """Start the server if it is down, thaw it if it is frozen, and wait until it answers. Idempotent.

        Another fault may take it away again in the meantime; then there is nothing to wait for, and its heal will.
        """
        async with self._switch:
            self._wanted.set()  # before it runs, so that whoever kills it from then on has the last word
            try:
                await self._run()
            except BaseException:
                self._wanted.clear()
                raise
        await self._until_ready()

    async def start_frozen(self) -> None:
        """Start the server, which is down, and freeze it at once: the container runs and nothing answers."""
        async with self._switch:
            await self._calls(self._api.start, self._id)
            await self._calls(self._api.pause, self._id)

    async def disconnect(self) -> None:
        """Pull the plug: packets of open connections get lost, new ones find nobody. Idempotent."""
        if self._plug.network in await self.networks():
            await self._calls(self._api.disconnect_container_from_network, self._id, self._plug.network, force=True)

    async def connect(self) -> None:
        """Put the plug back, under the same name and address. Idempotent."""
        if self._plug.network not in await self.networks():
            await self._calls(
                self._api.connect_container_to_network,
                self._id,
                self._plug.network,
                aliases=list(self._plug.aliases),
                ipv4_address=self._plug.address,
            )

    async def networks(self) -> tuple[str, ...]:
        """Return the networks that the container is on now."""
        return tuple((await self._inspect())["NetworkSettings"]["Networks"])

    async def limit_memory(self, limit_bytes: int | None) -> None:
        """Bound memory and swap together; None gives back what was before the first bound."""
        if limit_bytes is None:
            if self._bound_before is not None:
                memory, swap = self._bound_before
                await self._bound(memory or NO_BOUND_BYTES, swap or NO_BOUND_BYTES)
                self._bound_before = None
            return
        if self._bound_before is None:
            host = (await self._inspect())["HostConfig"]
            self._bound_before = (int(host["Memory"]), int(host["MemorySwap"]))
        await self._bound(limit_bytes, limit_bytes)

    async def memory(self) -> Mapping[str, int]:
        """Return usage_bytes, limit_hits (how often the kernel met the bound, where it counts that), and oom_kills."""
        told: Mapping[str, Any] = {}
        state = await self.state()
        self._tell_end(state)  # the keeper may be a moment behind
        if state["Running"]:
            told = (await self._calls(self._api.stats, self._id, stream=False, one_shot=True)).get("memory_stats", {})
        usage, limit = int(told.get("usage") or 0), int(told.get("limit") or 0)
        nearly = int(bool(limit) and usage >= _NEARLY * limit)
        return {
            "usage_bytes": usage,
            "limit_hits": int(told.get("failcnt") or nearly),
            "oom_kills": self._oom_kills,
        }

    async def signal(self, number: int) -> int:
        """Send a signal to the server and return its pid. Raises ProcessLookupError when it does not run.

        SIGSTOP and SIGCONT freeze and thaw the whole container; a killed server stays down.
        """
        state = await self.state()
        if not state["Running"]:
            raise ProcessLookupError("no process of redis is running")
        if number == signal.SIGKILL:
            self._wanted.clear()  # before the kill, or the keeper might be quicker than the fault
        try:
            if number == signal.SIGSTOP:
                if not state["Paused"]:
                    await self._calls(self._api.pause, self._id)
            elif number == signal.SIGCONT:
                await self._thaw()
            else:
                await self._calls(self._api.kill, self._id, signal.Signals(number).name)
        except DaemonError as error:
            if error.status == _CONFLICT:
                raise ProcessLookupError(str(error)) from error
            raise
        return int(state["Pid"])

    async def gone(self, pid: int, timeout_s: float) -> bool:
        """Wait until the server that had `pid` has ended; False when the time ran out first."""
        deadline = time.monotonic() + timeout_s
        while True:
            state = await self.state()
            if not state["Running"] or state["Pid"] != pid:
                return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_ASK_EVERY_S)

    async def frozen(self) -> bool:
        """Tell whether the freezer holds the container now."""
        return bool((await self.state())["Paused"])

    async def revive(self) -> None:
        """Start the server if a fault keeps it down. Idempotent."""
        if not self._wanted.is_set():
            await self.start()

    async def _bound(self, memory: int, swap: int) -> None:
        try:
            await self._calls(self._api.update_container, self._id, mem_limit=memory, memswap_limit=swap)
        except DaemonError as error:
            raise HarnessError(f"the memory of the server cannot be bound to {memory} bytes: {error}") from error

    async def _run(self) -> None:
        """Have the server run and not frozen; tell of it when it was started."""
        state = await self.state()
        if state["Paused"]:
            await self._thaw()
        if not state["Running"]:
            await self._calls(self._api.start, self._id)
            self._on_server("server_started", int((await self.state())["Pid"]))

    async def _until_ready(self) -> None:
        """Return when the server answers, or cannot since a fault holds it: down, frozen or unplugged."""
        answering = asyncio.ensure_future(self._ready())
        try:
            while not answering.done() and self._wanted.is_set():
                described = await self._inspect()
                if described["State"]["Paused"] or self._plug.network not in described["NetworkSettings"]["Networks"]:
                    return
                await asyncio.wait([answering], timeout=_LOOK_EVERY_S)
            if answering.done():
                await answering
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _thaw(self) -> None:
        with contextlib.suppress(DaemonError):  # it may have ended, or been thawed, in the meantime
            await self._calls(self._api.unpause, self._id)
        if await self.frozen():
            raise HarnessError(f"container {self._id[:12]} cannot be thawed")

    async def _end(self, signal_name: str, timeout_s: float) -> bool:
        """Send a signal and wait for the end; True when the server is down."""
        state = await self.state()
        if state["Running"]:
            with contextlib.suppress(DaemonError):  # it ended in the meantime
                await self._calls(self._api.kill, self._id, signal_name)
        ended = await self.gone(int(state["Pid"]), timeout_s)
        if ended:
            self._tell_end(await self.state())
        return ended

    def _tell_end(self, state: Mapping[str, Any]) -> None:
        """Tell of an end of the server, once."""
        if not state["Running"] and state["FinishedAt"] != self._told:
            self._told = state["FinishedAt"]
            self._oom_kills += int(state["OOMKilled"])
            code = int(state["ExitCode"])
            # The daemon tells 128 + n of a server that signal n ended; the history says -n, as of any process.
            self._on_server("server_exited", _SIGNALLED - code if code > _SIGNALLED else code)

    async def _keep(self) -> None:
        """Wait for each end of the server, tell of it, and start it again unless a fault wants it down."""
        while True:
            await self._until_ended()
            self._tell_end(await self.state())
            await self._wanted.wait()
            async with self._switch:
                with contextlib.suppress(DaemonError):  # tried again at the next turn
                    await self._run()
            with contextlib.suppress(EnvironmentUnavailable, DaemonError):  # whether it answers is for others to judge
                await self._until_ready()
            await asyncio.sleep(_ASK_EVERY_S)

    async def _until_ended(self) -> None:
        """Return when the container does not run; one long question at a time costs the daemon nothing."""
        while True:
            try:
                await self._calls(self._wait)
            except DaemonError:
                await asyncio.sleep(_ASK_EVERY_S)
            if not (await self.state())["Running"]:
                return

    def _wait(self) -> None:
        with contextlib.suppress(requests.exceptions.ConnectionError, requests.exceptions.Timeout):
            self._api.wait(self._id, timeout=_WATCH_S, condition="not-running")

    async def _inspect(self) -> dict[str, Any]:
        return dict(await self._calls(self._api.inspect_container, self._id))
