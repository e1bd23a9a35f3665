"""Starting child processes that cannot outlive their parent.

Three nets, one below the other: the parent ends its children on every ordinary exit; the kernel kills them
when the parent dies (PR_SET_PDEATHSIG, prctl(2), Linux); and the guardian of a run (`chaos.runner.guardian`)
kills what it was told of when the pipe from the harness closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

PARENT_VARIABLE = "CHAOS_PARENT_PID"
TRACEABLE_VARIABLE = "CHAOS_TRACEABLE"
"""Set for processes that strace may be put on, which is no ancestor of theirs."""

_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, -1
_ORPHANED = 87
_POLL_S = 0.02
_LAUNCHER = Path(__file__).with_name("_launch.py")


def die_with_parent(parent_pid: int | None = None) -> None:
    """Ask the kernel to SIGKILL this process when its parent dies; end at once if that already happened.

    `parent_pid` is the pid that must still be the parent; default: the one in CHAOS_PARENT_PID, else no check.
    The signal is bound to the *thread* that made this process (prctl(2)), so a parent starts its children from
    its main thread. Where the kernel has no such call this only checks the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if TRACEABLE_VARIABLE in os.environ:  # where Yama (prctl(2)) is not there, this does nothing
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY), 0, 0, 0)
    expected = parent_pid if parent_pid is not None else int(os.environ.get(PARENT_VARIABLE, "0"))
    if expected and os.getppid() != expected:
        os._exit(_ORPHANED)


class Started(Protocol):
    """A process as the system knows it: `subprocess.Popen` without what nobody needs here."""

    pid: int

    def poll(self) -> int | None:
        """Return the status, None while it runs."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""


class Child:
    """A started process: its pid, and how it ended.

    Waiting uses a pidfd where there is one and polls otherwise. `status` follows subprocess: an exit code, or
    -n after signal n, or None while it runs.
    """

    def __init__(self, name: str, process: Started) -> None:
        """Wrap a process that was started just now; needs a running event loop."""
        self.name = name
        self.pid = process.pid
        self._process = process
        self._gone = asyncio.Event()
        self._waiter = asyncio.get_running_loop().create_task(self._wait())

    @property
    def status(self) -> int | None:
        """Exit code, -signal, or None while it runs."""
        return self._process.poll()

    async def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end and return the status; None when `timeout_s` ran out first. Safe to cancel."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._gone.wait()
        except TimeoutError:
            return None
        return self._process.poll()

    async def kill(self, timeout_s: float = 5.0) -> bool:
        """SIGKILL it and wait until it is reaped; True when it is gone. Works on a stopped process too."""
        self.send(signal.SIGKILL)
        return await self.wait(timeout_s) is not None

    def send(self, signal_number: int) -> None:
        """Send a signal; nothing happens when it has ended already."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal_number)

    async def _wait(self) -> None:
        try:
            if hasattr(os, "pidfd_open"):
                await until_exit(self.pid)
            while self._process.poll() is None:
                await asyncio.sleep(_POLL_S)
        finally:
            self._gone.set()


async def until_exit(pid: int) -> None:
    """Return when process `pid` has ended (it may still be waiting to be reaped); at once if there is none.

    Uses a pidfd (Linux) and asks again and again elsewhere, where a child that was not reaped counts as living.
    Safe to cancel.
    """
    if not hasattr(os, "pidfd_open"):
        while _exists(pid):
            await asyncio.sleep(_POLL_S)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def is_stopped(pid: int) -> bool:
    """Tell whether `pid` is stopped: state T in proc(5); True where there is no /proc to ask."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    return text.rpartition(")")[2].split()[0] in ("T", "t")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def spawn_python(
    name: str,
    module: str,
    arguments: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    sock: socket.socket | None = None,
) -> Child:
    """Start `python -m module arguments`; when `sock` is given, `--fd N` with its number is appended.

    The child inherits only that socket (ours is to be closed by the caller afterwards), appends its output to
    `log`, leads a session of its own so that Ctrl-C in a terminal does not reach it, and must call
    `die_with_parent` first of all.
    """
    command = [sys.executable, "-P", "-m", module, *arguments]
    if sock is not None:
        command += ["--fd", str(sock.fileno())]
    return _spawn(name, command, log=log, environment=environment, sock=sock)


def spawn_program(
    name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Start any program through a small launcher that ties it to this process and then becomes it (execv)."""
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *command]
    return _spawn(name, launcher, log=log, environment=environment, sock=None)


def _spawn(
    name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None, sock: socket.socket | None
) -> Child:
    variables = {**os.environ, **(environment or {}), PARENT_VARIABLE: str(os.getpid())}
    with log.open("ab", buffering=0) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            pass_fds=() if sock is None else (sock.fileno(),),
            start_new_session=True,
        )
    return Child(name, process)
