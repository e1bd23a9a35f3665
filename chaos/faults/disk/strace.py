"""File faults without the shim: strace, put on a running process for as long as a fault lasts.

For what nothing can be preloaded into: static programs, machines without the built library. What a fault may ask for is
in `tracing`. While strace is on a process, every system call of it stops twice, so it is slower by an order of
magnitude where it waits for nothing else; before and afterwards it costs nothing. A process has at most one tracer, so
of two faults on one process at one time the second is refused. Each thread of a process counts its calls by itself.

strace follows the threads and later children of a process. It is a child of the harness that dies with it; a process
whose tracer dies goes on untraced, and is ended by what ends it anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from chaos._process import Child, spawn_program
from chaos.errors import EnvironmentUnavailable
from chaos.faults.base import STRUCK, Evidence
from chaos.faults.disk.tracing import Injection, Traced, injection_of, read_log

_ATTACH_S = 5.0
_DETACH_S = 5.0
_POLL_S = 0.005
_LOOK_S = 0.01
_PROBE_S = 10.0
_VERSION = re.compile(r"version (\S+)")
_PROBE = ("-f", "-o", os.devnull, "-e", "trace=?fsync", "-e", "inject=?fsync:error=EIO:when=1..2", "true")
_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")


@cache
def available() -> tuple[bool, str]:
    """Tell whether strace can be put on our processes here, and if not, why. Runs it once."""
    program = shutil.which("strace")
    if program is None:
        return False, "strace is not on PATH"
    with contextlib.suppress(OSError, ValueError):
        if int(_SCOPE.read_text()) > 1:
            return False, f"{_SCOPE} lets no process be traced"
    try:
        done = subprocess.run([program, *_PROBE], capture_output=True, text=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"strace does not run: {error}"
    return (True, "") if done.returncode == 0 else (False, f"strace cannot inject: {done.stderr.strip()}")


def version() -> str:
    """Return strace's version, empty when it does not tell."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["strace", "--version"], capture_output=True, text=True, timeout=_PROBE_S, check=False)
        if found := _VERSION.search(done.stdout):
            return found[1]
    return ""


@dataclass
class _Fault:
    """A fault that holds: the files that it means, and every strace that was started for it."""

    injection: Injection
    files: list[Path]
    traces: list[_Trace] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    healed: bool = False

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something for the fault beside everything else; it ends when `healed` is set."""
        self.tasks.append(asyncio.get_running_loop().create_task(work))


@dataclass
class _Trace:
    """One strace: its process, where it writes what it sees, and where it writes what goes wrong."""

    child: Child
    seen: Path
    said: Path


class StraceDisk:
    """The `DiskLever` of one store whose processes are traced while a fault holds."""

    def __init__(
        self,
        folder: Path,
        logs: Path,
        processes: Callable[[], Iterable[int]],
        *,
        environment: Mapping[str, str] | None = None,
        on_child: Callable[[Child], None] = lambda _: None,
    ) -> None:
        """`folder` holds the store's files, `logs` gets what strace writes.

        `processes` returns the pids that use the store now. Each strace is started with `environment` in addition to
        ours, and told to `on_child`.
        """
        self._environment = environment
        self._folder = folder
        self._logs = logs
        self._processes = processes
        self._on_child = on_child
        self._faults: dict[str, _Fault] = {}
        self._number = 0

    async def arm(self, fault_id: str, rule: Mapping[str, Any]) -> None:
        """Put strace on the processes; returns when it is there, so the rule acts from the next matching call on.

        The glob means the files that are there now. Raises EnvironmentUnavailable when there is none, when there is no
        process, or when one cannot be traced; Beyond for a rule that validation should have refused.
        """
        injection = injection_of(rule)
        files = self._files(str(rule.get("path", "*")))
        pids = list(self._processes())
        if not pids:
            raise ProcessLookupError(f"no process uses {self._folder}")
        fault = self._faults[fault_id] = _Fault(injection, files)
        for pid in pids:
            await self._trace(fault_id, fault, pid)
        if injection.count:
            fault.spawn(self._until_struck(fault))

    def started(self, pid: int) -> None:
        """Put strace on a process that has just been started, for every fault that still acts. Returns at once."""
        for fault_id, fault in self._faults.items():
            if self._goes_on(fault):
                fault.spawn(self._trace_late(fault_id, fault, pid))

    async def disarm(self, fault_id: str) -> Evidence:
        """Take strace off and return what it saw; {} when the fault does not hold. Idempotent."""
        fault = self._faults.get(fault_id)
        if fault is None:
            return {}
        fault.healed = True
        await asyncio.gather(*fault.tasks, return_exceptions=True)
        for trace in fault.traces:
            await _detach(trace)
        told = self._told(fault)
        self._faults.pop(fault_id, None)
        evidence = {**told.evidence(fault.injection.action), "processes_traced": len(fault.traces)}
        if told.struck_s is not None:
            evidence[STRUCK] = time.monotonic_ns() - time.time_ns() + int(told.struck_s * 1e9)
        return evidence

    def _files(self, pattern: str) -> list[Path]:
        """Return the files and folders of the store that the glob means now; `*` covers slashes, as in the shim."""
        wanted = re.compile("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern), re.DOTALL)
        there = [self._folder, *self._folder.rglob("*")]
        files = [path for path in there if wanted.fullmatch(self._name(path))]
        if not files:
            raise EnvironmentUnavailable(
                f"path={pattern!r} means none of the files of {self._folder.name} that are there now",
                "strace follows files by their full names: begin the fault when they exist",
            )
        return files

    def _name(self, path: Path) -> str:
        """Return the name that globs see: that of a folder ends in a slash, and the store's own has none else."""
        name = path.relative_to(self._folder).as_posix() if path != self._folder else ""
        return f"{name}/" if name and path.is_dir() else name

    async def _trace(self, fault_id: str, fault: _Fault, pid: int) -> None:
        """Put strace on one process and wait until it says so."""
        self._number += 1
        seen, said = (self._logs / f"strace-{fault_id}-{self._number}.{end}" for end in ("calls", "log"))
        paths = [word for path in fault.files for word in ("-P", str(path))]
        options = ["-f", "-ttt", "-s", "0", "-o", str(seen), "-p", str(pid), *paths, *fault.injection.arguments()]
        child = spawn_program(
            "strace", [str(shutil.which("strace")), *options], log=said, environment=self._environment
        )
        self._on_child(child)
        trace = _Trace(child, seen, said)
        fault.traces.append(trace)
        async with asyncio.timeout(_ATTACH_S):
            while " attached" not in (text := said.read_text(errors="replace")):
                if child.status is not None:
                    reason = text.strip().splitlines()[-1:] or ["it ended at once"]
                    raise EnvironmentUnavailable(
                        f"strace cannot be put on process {pid}: {reason[0]}", "one fault with strace at a time"
                    )
                await asyncio.sleep(_POLL_S)

    async def _trace_late(self, fault_id: str, fault: _Fault, pid: int) -> None:
        with contextlib.suppress(EnvironmentUnavailable, TimeoutError):  # it may be gone again already
            await self._trace(fault_id, fault, pid)

    async def _until_struck(self, fault: _Fault) -> None:
        """Take strace off once a fault that counts has struck so often: a new thread would count from 1 again."""
        while not fault.healed and self._goes_on(fault):
            await asyncio.sleep(_LOOK_S)
        if not fault.healed:
            for trace in fault.traces:
                await _detach(trace)

    def _goes_on(self, fault: _Fault) -> bool:
        """Tell whether a fault may still strike; one that counts stops at its count."""
        return not fault.healed and (not fault.injection.count or self._told(fault).fired < fault.injection.count)

    def _told(self, fault: _Fault) -> Traced:
        total = Traced()
        for trace in fault.traces:
            with contextlib.suppress(FileNotFoundError):
                total += read_log(trace.seen.read_text(errors="replace").splitlines(), fault.injection)
        return total


async def _detach(trace: _Trace) -> None:
    """End a strace; it lets go of its processes, in the middle of a delay too. What does not end is killed."""
    trace.child.send(signal.SIGTERM)
    if await trace.child.wait(_DETACH_S) is None:
        await trace.child.kill()
