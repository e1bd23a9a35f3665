"""What faults can act on in a run: the proxy, the shim, and the processes."""

from __future__ import annotations

import asyncio
import os

from chaos._process import is_stopped, until_exit
from chaos.backends.environment import Environment
from chaos.errors import EnvironmentUnavailable
from chaos.faults.base import STRUCK, ContainerLever, DiskLever, Evidence, NetworkLever, PowerLever
from chaos.faults.disk.control import Control, StoreDisk
from chaos.runner.supervisor import Supervisor

_LOOK_S = 0.05
"""What a mere look at whether a process is gone may take."""


class _ClockedDisk(StoreDisk):
    """Tells also when a rule acted last, as the shim recorded it before the call returned."""

    def disarm(self, fault_id: str) -> Evidence:
        """Disarm it and return its counters with the time of its last blow; {} when it is not armed."""
        evidence = super().disarm(fault_id)
        struck = [record.time_ns for record in self._control.records() if record.rule_id == fault_id]
        return {**evidence, STRUCK: max(struck)} if evidence and struck else evidence


class RunLevers:
    """The `Levers` of one run."""

    def __init__(
        self,
        environment: Environment,
        network: NetworkLever,
        supervisor: Supervisor,
        control: Control | None,
        power: PowerLever | None = None,
    ) -> None:
        """`network` acts on the proxy in front of Redis.

        `control` is None when no shim is loaded, `power` when no operation log is kept.
        """
        self._power = power
        self._network = network
        self._environment = environment
        self._supervisor = supervisor
        self._control = control

    def network(self, store: str) -> NetworkLever:
        """Return the proxy in front of `store`; KeyError for all but Redis."""
        return {"redis": self._network}[store]

    def container(self, store: str) -> ContainerLever:
        """Return the container of `store`."""
        if store != "redis" or self._environment.containers is None:
            raise EnvironmentUnavailable(f"{store} is not in a container", "use --backend docker")
        return self._environment.containers

    def disk(self, store: str) -> DiskLever:
        """Return the shim's control, seen from `store`'s folder."""
        if self._control is None:
            raise EnvironmentUnavailable("no file shim is loaded", "see `chaos doctor`")
        return _ClockedDisk(self._control, store)

    def power(self) -> PowerLever:
        """Return the power switch."""
        if self._power is None:
            raise EnvironmentUnavailable("no operation log is kept", "see `chaos doctor`")
        return self._power

    async def signal(self, target: str, signal_number: int) -> int:
        """Send a signal; raises ProcessLookupError when the process is not there."""
        if target == "redis":
            return await self._environment.signal_redis(signal_number)
        pid = self._pid(target)
        os.kill(pid, signal_number)
        return pid

    async def wait_gone(self, target: str, pid: int, timeout_s: float) -> bool:
        """Wait for the end of a process that need not be our own child."""
        if target == "redis":
            return await self._environment.redis_gone(pid, max(timeout_s, _LOOK_S))
        try:
            async with asyncio.timeout(max(timeout_s, _LOOK_S)):
                await until_exit(pid)
        except TimeoutError:
            return False
        return True

    async def stopped(self, target: str, pid: int) -> bool:
        """Tell whether a process is stopped now."""
        if target == "redis":
            return await self._environment.redis_stopped(pid)
        return is_stopped(pid)

    async def supplant(self) -> int:
        """Stop the worker and have another started in its place."""
        return self._supervisor.supplant()

    async def resume(self, pid: int) -> int:
        """Let a supplanted worker go on."""
        return await self._supervisor.resume(pid)

    async def revive(self, target: str) -> None:
        """Start the Redis server again if a fault keeps it down; the others are supervised."""
        if target == "redis":
            await self._environment.revive_redis()

    def _pid(self, target: str) -> int:
        if target == "worker":
            child = self._supervisor.child
            if child is not None and child.status is None:
                return child.pid
        elif target in self._supervisor.children:
            return self._supervisor.children[target]
        raise ProcessLookupError(f"no process of {target} is running")
