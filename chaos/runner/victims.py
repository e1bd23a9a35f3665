"""The processes under the file shim of a run: found without being told of them, and all ended at one moment.

They are those that map the run's control file, or were started with its name in their environment and have not come to
mapping it yet. So a child of a child counts, also one that hides its environment (Redis-compatible servers do).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from chaos._process import until_exit
from chaos.faults.disk import library
from chaos.faults.disk.control import Control

STOP_TIMEOUT_S = 2.0
DEATH_TIMEOUT_S = 5.0
_LOOK_S = 0.002
_RUNNABLE = "RS"


def under(control: Path, among: Iterable[int] | None = None) -> frozenset[int]:
    """Return the pids of all living processes but this one that are under the shim with this control file.

    `among`: look at these only, not at all that there are.
    """
    mapped = b" " + os.fsencode(os.path.realpath(control))
    told = f"{library.CONTROL}={control.absolute()}".encode()
    found = set()
    for pid in (int(entry.name) for entry in Path("/proc").glob("[0-9]*")) if among is None else among:
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours
            if pid != os.getpid() and (told in _environment(process) or _maps(process, mapped)):
                found.add(pid)
    return frozenset(found)


async def fell(control: Control) -> tuple[int, tuple[int, ...]]:
    """End all of them as one moment would; return how many were, and the pids of those that outlived it.

    First all are stopped, those that the control file names before a look at every process there is, which takes long
    enough for a server to sync once more; then all are killed, so that none of them lives to see another's end. For the
    last one stopped, those before it were merely slow.

    What one of them had sent before, an acknowledgement above all, rests on calls that had returned, so their records
    are in the log. Cut at its end when all are dead, it holds whatever anybody was told: the clock then is the moment.

    Cancellation: nobody stays stopped; those that were are killed.
    """
    stopped = set(under(control.path, set(control.attached_pids())))
    for pid in stopped:
        _send(pid, signal.SIGSTOP)
    try:
        with contextlib.suppress(TimeoutError):  # one that cannot be stopped can still be killed
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await _stop_all(control.path, stopped)
    finally:
        for pid in stopped:
            _send(pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEATH_TIMEOUT_S):
            for pid in stopped:
                await until_exit(pid)
    return len(stopped), tuple(sorted(under(control.path)))


async def _stop_all(control: Path, stopped: set[int]) -> None:
    """Send SIGSTOP until a look finds nobody new and nobody that can run; `stopped` gathers them."""
    while True:
        found = under(control)
        for pid in found - stopped:
            _send(pid, signal.SIGSTOP)
        if found <= stopped and all(map(_stands_still, found)):
            return
        stopped |= found
        await asyncio.sleep(_LOOK_S)


def _stands_still(pid: int) -> bool:
    """Tell whether no thread of a process that was sent SIGSTOP can run code of its own any more.

    One within a system call that cannot be interrupted (state D) stops at its end, before it returns. That is where
    a process waits that has begun to start another by vfork(2), for as long as the other is stopped.
    """
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if (task / "stat").read_text().rpartition(")")[2].split()[0] in _RUNNABLE:
                    return False
    return True


def _environment(process: Path) -> list[bytes]:
    return (process / "environ").read_bytes().split(b"\0")


def _maps(process: Path, file: bytes) -> bool:
    return any(line.endswith(file) for line in (process / "maps").read_bytes().splitlines())


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
