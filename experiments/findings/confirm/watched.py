"""Running a process under strace: which calls it makes on its files, and ending or failing it at one of them.

strace is a debugger: nothing is loaded into the process, and SIGKILL comes from the kernel at the moment of the call.
"""

from __future__ import annotations

import fnmatch
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.crashpoints.promises import Promise

CALLS = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "unlink", "rename", "openat")
SYNCS = ("fsync", "fdatasync")
WRITES = ("write", "pwrite64")
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_MARKER = ".chaos-marker/"


@dataclass(frozen=True)
class Moment:
    """A call on a file of the folder: thread, name, how many of them that thread has made on it, the name of the file.

    promise: what had been told when it came.
    """

    thread: int
    call: str
    nth: int
    file: str
    promise: Promise

    def words(self, folder: Path, injection: str) -> list[str]:
        """Return the strace words that inject at this call and no other: only its file counts."""
        return ["-P", str(folder / self.file), "-e", f"inject={self.call}:{injection}:when={self.nth}"]


def strace(words: Sequence[str], command: Sequence[str], *, limit_s: float) -> tuple[int | None, str]:
    """Run a command under strace; return its status (-n after signal n, None when its time was over) and its words."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    process = subprocess.Popen(
        ["strace", "-f", "-qq", *words, *command],  # not --seccomp-bpf: with it 6.1 misses injections in threads
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return None, said
    return process.returncode, said


def record(command: Sequence[str], folder: Path, log: Path, *, limit_s: float) -> list[tuple[str, Moment]]:
    """Run a command and return every call on a file of `folder`, each with the phase in which it came."""
    status, said = strace(["-y", "-o", str(log), "-e", f"trace={','.join(CALLS)}"], command, limit_s=limit_s)
    if status != 0:
        raise RuntimeError(f"{command}: status {status} without any fault: {said[-400:]}")
    return list(_moments(log.read_text(errors="replace").splitlines(), folder))


def _moments(lines: Sequence[str], folder: Path) -> list[tuple[str, Moment]]:
    promise = Promise()
    counts: Counter[tuple[int, str, str]] = Counter()
    found = []
    for line in lines:
        match = _LINE.match(line)
        if match is None or str(folder) not in match[3]:
            continue
        thread, call, rest = int(match[1]), match[2], match[3]
        name = rest.partition(f"{folder}/")[2]
        if name.startswith(_MARKER):
            promise = promise.told(name.removeprefix(_MARKER).partition('"')[0])
            continue
        if not name:
            continue
        file = re.split(r'[">]', name)[0]
        counts[thread, call, file] += 1
        found.append((promise.phase, Moment(thread, call, counts[thread, call, file], file, promise)))
    return found


def within(moments: Sequence[tuple[str, Moment]], phase: str, after: str = "*") -> list[Moment]:
    """Return the moments of a phase, from behind the first one on whose words `after` fits; of the main thread of it.

    Counting is by thread, so a moment whose number another thread reaches as well cannot be named, and is left out.
    """
    inside = [moment for told, moment in moments if told == phase]
    if after != "*":
        words = [f"{'sync' if one.call in SYNCS else one.call} {one.file}" for one in inside]
        first = next((at for at, text in enumerate(words) if fnmatch.fnmatchcase(text, after)), len(inside))
        inside = inside[first + 1 :]
    everyone = [moment for _, moment in moments]
    return [
        one
        for one in inside
        if not any(_place(other) == _place(one) and other.thread != one.thread for other in everyone)
    ]


def _place(moment: Moment) -> tuple[str, str, int]:
    return moment.call, moment.file, moment.nth


def spread(moments: Sequence[Moment], count: int) -> list[Moment]:
    """Return at most `count` of them, evenly."""
    step = max(1, -(-len(moments) // count))
    return list(moments[::step])
