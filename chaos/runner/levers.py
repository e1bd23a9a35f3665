"""What faults can act on in a run: the proxy, the shim, and the processes."""

from __future__ import annotations

import asyncio
import os
import signal

from chaos._process import until_exit
from chaos.backends.embedded import EmbeddedEnvironment
from chaos.errors import EnvironmentUnavailable
from chaos.faults.base import DiskLever, NetworkLever
from chaos.faults.disk.control import Control, StoreDisk
from chaos.faults.network.client import ProxyProcess
from chaos.runner.supervisor import Supervisor

_LOOK_S = 0.05
"""What a mere look at whether a process is gone may take."""


class RunLevers:
    """The `Levers` of one run."""

    def __init__(self, environment: EmbeddedEnvironment, supervisor: Supervisor, control: Control | None) -> None:
        """`control` is None when no shim is loaded."""
        assert environment.proxy_channel is not None
        self._environment = environment
        self._supervisor = supervisor
        self._control = control
        self._proxy = ProxyProcess(environment.proxy_channel)

    def network(self, store: str) -> NetworkLever:
        """Return the proxy in front of `store`."""
        return self._proxy.lever(store)

    def disk(self, store: str) -> DiskLever:
        """Return the shim's control, seen from `store`'s folder."""
        if self._control is None:
            raise EnvironmentUnavailable("no file shim is loaded", "see `chaos doctor`")
        return StoreDisk(self._control, store)

    async def signal(self, target: str, signal_number: int) -> int:
        """Send a signal; raises ProcessLookupError when the process is not there."""
        pid = self._pid(target)
        if target == "redis" and signal_number == signal.SIGKILL:
            self._environment.hold_down = True  # before the kill, or the keeper might be quicker than the fault
        os.kill(pid, signal_number)
        return pid

    async def wait_gone(self, target: str, pid: int, timeout_s: float) -> bool:
        """Wait for the end of a process that need not be our own child."""
        try:
            async with asyncio.timeout(max(timeout_s, _LOOK_S)):
                await until_exit(pid)
        except TimeoutError:
            return False
        return True

    async def revive(self, target: str) -> None:
        """Start the Redis server again if a fault keeps it down; the others are supervised."""
        if target == "redis" and self._environment.hold_down:
            await self._environment.start_redis()

    def _pid(self, target: str) -> int:
        if target == "redis":
            server = self._environment.server
            if server is not None and server.child is not None and server.child.status is None:
                return server.child.pid
        elif target == "worker":
            child = self._supervisor.child
            if child is not None and child.status is None:
                return child.pid
        elif target in self._supervisor.children:
            return self._supervisor.children[target]
        raise ProcessLookupError(f"no process of {target} is running")
