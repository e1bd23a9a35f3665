"""The guardian: a small process that cleans up after a harness that was killed.

It is started before anything else of a run and reads lines from a pipe. When the pipe closes without a
farewell, the harness is dead: the guardian kills every process it was told of, removes the containers of the run,
gives a borrowed compose stack back, removes the folders it was told of and notes the end in run.json. It is the net
for kill -9; on every other exit the harness does this.

Run as a script it uses the standard library only and imports nothing of the package, but for the files that speak
with a docker daemon and keep to the same rule.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_GONE_TIMEOUT_S = 5.0
NEEDED_LATER = ("owner", "stack.json")
"""What stays in the live data when something could not be given back: `chaos heal` needs it to try again."""

_PACKAGE = Path(__file__).resolve().parents[1]

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

    def watch_containers(self, run: str) -> None:
        """Remove every container, network and volume that is labelled with `run`, if the harness dies."""
        self._tell("containers", run)

    def all_made(self) -> None:
        """Nothing more will be asked of the daemon for the runs named so far; a late container need not be awaited."""
        self._tell("made", "")

    def watch_stack(self, note: dict[str, Any]) -> None:
        """Give a borrowed compose stack back as `note` says (`chaos.backends.docker.stack`), if the harness dies."""
        self._tell("stack", note)

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

    def _tell(self, verb: str, argument: Any) -> None:
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


def empty(folder: Path, *, keep: tuple[str, ...]) -> None:
    """Remove everything in a folder but the files to keep."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name not in keep:
                entry.unlink(missing_ok=True)


def note_killed(manifest: Path, left: list[str] | None = None) -> bool:
    """Write into run.json that the run was killed, and what is `left` of it; True when it had said it was running."""
    with contextlib.suppress(OSError, ValueError):
        run = json.loads(manifest.read_text())
        was_running = bool(run.get("verdict") == "running")
        told = "; ".join(["the harness was killed (SIGKILL)", *(f"left behind: {one}" for one in left or ())])
        run.update(verdict="killed", exit_code=128 + signal.SIGKILL, message=told)
        draft = manifest.with_name(manifest.name + ".tmp")
        draft.write_text(json.dumps(run, indent=2) + "\n")
        draft.replace(manifest)
        return was_running
    return False


def _load(name: str) -> Any:
    """Import a file of the package that uses the standard library only; the package's own __init__ uses far more."""
    if "chaos" not in sys.modules:
        package = types.ModuleType("chaos")
        package.__path__ = [str(_PACKAGE)]
        sys.modules["chaos"] = package
    return importlib.import_module(name)


class _Told:
    """What the harness has told so far, and how to end it all."""

    def __init__(self) -> None:
        self.processes: dict[int, str | None] = {}
        self.folders: list[Path] = []
        self.manifests: list[Path] = []
        self.marks: list[str] = []
        self.containers: list[Callable[..., Any]] = []
        self.all_made = False
        self.stacks: list[Callable[[], Any]] = []
        self.left: list[str] = []

    def hear(self, verb: str, argument: Any) -> None:
        """Take note of one line."""
        if verb == "process":
            self.processes[int(argument)] = _start_time(int(argument))
        elif verb == "folder":
            self.folders.append(Path(argument))
        elif verb == "mark":
            self.marks.append(argument)
        elif verb == "manifest":
            self.manifests.append(Path(argument))
        elif verb == "containers":  # imported now: once the harness is dead every millisecond counts
            self.containers.append(partial(_load("chaos.backends.docker.sweep").remove, argument))
        elif verb == "made":
            self.all_made = True
        elif verb == "stack":
            self.stacks.append(partial(_load("chaos.backends.docker.stack").restore, argument, at_once=True))

    def end_all(self) -> None:
        """End and remove everything; the daemon works while we do."""
        once = {"quiet_s": 0} if self.all_made else {}
        threads = [threading.Thread(target=self._swept, args=(partial(work, **once),)) for work in self.containers]
        for thread in threads:
            thread.start()
        _kill(self.processes)
        _kill({pid: _start_time(pid) for mark in self.marks for pid in processes_with(RUN_MARK, mark)})
        for folder in self.folders:
            empty(folder, keep=NEEDED_LATER)
        for work in self.stacks:  # only now: nobody is left who could write into the database behind us
            self._swept(work)
        for thread in threads:
            thread.join()
        for folder in self.folders:
            if not self.left:
                shutil.rmtree(folder, ignore_errors=True)
        for manifest in self.manifests:
            note_killed(manifest, self.left)

    def _swept(self, work: Callable[[], Any]) -> None:
        try:
            self.left += work().stuck
        except Exception as error:  # noqa: BLE001  # nobody listens any more; run.json is where it can still be told
            self.left.append(f"in the docker daemon: {type(error).__name__}: {error}")


def main() -> None:
    """Read lines until the farewell or the end of the pipe; clean up in the second case."""
    told = _Told()
    for line in sys.stdin:
        verb, argument = json.loads(line)
        if verb == "farewell":
            return
        told.hear(verb, argument)
    told.end_all()


if __name__ == "__main__":
    main()
