"""What faults can act on in a run: the proxy, the files, and the processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from chaos._process import is_stopped, until_exit
from chaos.backends.environment import Environment
from chaos.errors import EnvironmentUnavailable
from chaos.faults.base import ContainerLever, DiskLever, NetworkLever, PowerLever
from chaos.runner.disks import Disks
from chaos.runner.supervisor import Supervisor
from chaos.stores import graph_files

_LOOK_S = 0.05
"""What a mere look at whether a process is gone may take."""

_WRITE_LOCK = 120
"""The byte of the index of SQLite's log that a writer locks (WAL_WRITE_LOCK, walformat.html section 2.3)."""

_HOLDERS = {"sqlite": "transaction", "graph": "child"}


def _lock_writing(descriptor: int) -> None:
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _WRITE_LOCK)


def _lock_wholly(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_LOCKS: Mapping[str, tuple[str, Callable[[int], None]]] = {
    "sqlite": ("sqlite/main.db-shm", _lock_writing),
    "graph": (f"graph/{graph_files.LOCK}", _lock_wholly),
}
"""The file that bears a store's lock, and how it is taken."""


Erase = Callable[[Path], Awaitable[Mapping[str, int]]]


class RunLevers:
    """The `Levers` of one run."""

    def __init__(
        self,
        environment: Environment,
        network: NetworkLever,
        supervisor: Supervisor,
        disks: Disks,
        data: Path,
        erase: Erase,
        power: PowerLever | None = None,
    ) -> None:
        """`network` acts on the proxy in front of Redis; `power` is None when no operation log is kept.

        `data` is the root of the stores' files, `erase` removes what is in a folder below it.
        """
        self._erase = erase
        self._data = data
        self._power = power
        self._network = network
        self._environment = environment
        self._supervisor = supervisor
        self._disks = disks

    def network(self, store: str) -> NetworkLever:
        """Return the proxy in front of `store`; KeyError for all but Redis."""
        return {"redis": self._network}[store]

    def container(self, store: str) -> ContainerLever:
        """Return the container of `store`."""
        if store != "redis" or self._environment.containers is None:
            raise EnvironmentUnavailable(f"{store} is not in a container", "use --backend docker")
        return self._environment.containers

    def disk(self, store: str) -> DiskLever:
        """Return what reaches the file calls of `store`."""
        return self._disks.lever(store)

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
        """Stop the worker, kill its children, and have another started in its place."""
        return self._supervisor.supplant()

    async def stall(self, duration_s: float) -> float:
        """Block the worker's event loop."""
        return await self._supervisor.stall(duration_s)

    async def shift_clock(self, by_s: float) -> int:
        """Shift the worker's wall clock."""
        return await self._supervisor.shift_clock(by_s)

    async def resume(self, pid: int) -> int:
        """Let a supplanted worker go on."""
        return await self._supervisor.resume(pid)

    def lock(self, store: str) -> int:
        """Take SQLite's write lock, or that of the graph child."""
        if store not in _LOCKS:
            raise EnvironmentUnavailable(f"{store} has no lock that could be taken", 'use HoldLock("sqlite")')
        file, take = _LOCKS[store]
        try:
            descriptor = os.open(self._data / file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ProcessLookupError("nobody has the database open") from error
        try:
            take(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise ProcessLookupError(f"a {_HOLDERS[store]} of the system has the lock") from error
        return descriptor

    def corrupt(self, store: str, path: str, offset: int, length: int) -> Mapping[str, int]:
        """Change the bytes in place, with one write for each file."""
        files = [file for file in sorted((self._data / store).glob(path)) if file.is_file()]
        if not files:
            raise ProcessLookupError(f"no file of {store} is called {path}")
        return {"files_changed": len(files), "bytes_changed": sum(_complement(file, offset, length) for file in files)}

    async def empty(self, target: str) -> Mapping[str, int]:
        """Remove every file of Redis; nothing starts its server while a fault keeps it down."""
        folder = self._environment.redis_folder if target == "redis" else None
        if folder is None:
            raise EnvironmentUnavailable(f"the files of {target} are not within reach", "use --backend embedded")
        return await self._erase(folder)

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


def _complement(file: Path, offset: int, length: int) -> int:
    """Turn bytes of a file into their complement; return how many it had there."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        found = os.pread(descriptor, min(length, os.fstat(descriptor).st_size), offset)
        return os.pwrite(descriptor, bytes(byte ^ 0xFF for byte in found), offset)
    finally:
        os.close(descriptor)
