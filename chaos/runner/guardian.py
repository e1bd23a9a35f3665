"""The guardian: a small process that cleans up after a harness that was killed.

It is started before anything else of a run and reads lines from a pipe. When the pipe closes without a
farewell, the harness is dead: the guardian kills every process it was told of, removes the folders it was
told of and notes the end in run.json. It is the net for kill -9; on every other exit the harness does this.

Run as a script it uses the standard library only and imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_GONE_TIMEOUT_S = 5.0


RUN_MARK = "CHAOS_RUN"
"""Variable in the environment of a run's server and worker, and so of all that they start: the run's folder."""


class Guardian:
    """The harness's end of the pipe. Every method returns at once; a dead guardian is not an error here."""

    def __init__(self) -> None:
        """Start the guardian process."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Pid of the guardian process."""
        return self._process.pid

    def watch_process(self, pid: int) -> None:
        """Kill `pid` if the harness dies."""
        self._tell("process", str(pid))

    def watch_folder(self, folder: Path) -> None:
        """Remove `folder` if the harness dies."""
        self._tell("folder", str(folder))

    def watch_mark(self, value: str) -> None:
        """Kill every process whose environment says RUN_MARK=value, if the harness dies."""
        self._tell("mark", value)

    def watch_manifest(self, path: Path) -> None:
        """Note in the manifest (run.json) that the run was killed, if the harness dies."""
        self._tell("manifest", str(path))

    def dismiss(self) -> None:
        """Say farewell: the harness has cleaned up by itself. Waits until the guardian has ended."""
        self._tell("farewell", "")
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(_GONE_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # somebody stopped it; it has nothing to do any more
            self._process.kill()
            self._process.wait()

    def _tell(self, verb: str, argument: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([verb, argument]).encode() + b"\n")
            self._process.stdin.flush()


def processes_with(variable: str, value: str) -> dict[int, str]:
    """Return pid and command line of every living process in whose environment `variable` is `value`.

    The calling process is left out; where there is no /proc (outside Linux) none is found.
    """
    wanted = f"{variable}={value}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            if pid != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if _start_time(pid) is not None:
                    found[pid] = command
    return found


def _start_time(pid: int) -> str | None:
    """Return what tells this process from a later one with the same number: its start time, proc(5) field 22.

    None when it is gone; a zombie is gone, since an orphan's new parent may never reap it.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _kill(processes: dict[int, str | None]) -> None:
    """SIGKILL every process that is still the one we were told of, and its session; wait until all are gone."""
    for pid, started in processes.items():
        if _start_time(pid) == started:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while time.monotonic() < deadline and any(
        started is not None and _start_time(pid) == started for pid, started in processes.items()
    ):
        time.sleep(0.01)


def _note(manifest: Path) -> None:
    """Write into run.json that the run was killed."""
    with contextlib.suppress(OSError, ValueError):
        run = json.loads(manifest.read_text())
        run.update(verdict="killed", exit_code=128 + signal.SIGKILL, message="the harness was killed (SIGKILL)")
        draft = manifest.with_name(manifest.name + ".tmp")
        draft.write_text(json.dumps(run, indent=2) + "\n")
        draft.replace(manifest)


def main() -> None:
    """Read lines until the farewell or the end of the pipe; clean up in the second case."""
    processes: dict[int, str | None] = {}
    folders: list[Path] = []
    manifests: list[Path] = []
    marks: list[str] = []
    for line in sys.stdin:
        verb, argument = json.loads(line)
        if verb == "farewell":
            return
        if verb == "process":
            processes[int(argument)] = _start_time(int(argument))
        elif verb == "folder":
            folders.append(Path(argument))
        elif verb == "mark":
            marks.append(argument)
        elif verb == "manifest":
            manifests.append(Path(argument))
    _kill(processes)
    _kill({pid: _start_time(pid) for mark in marks for pid in processes_with(RUN_MARK, mark)})
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for manifest in manifests:
        _note(manifest)


if __name__ == "__main__":
    main()
