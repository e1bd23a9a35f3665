"""Looking at one state, in a forked process with limits: whatever the store does there, it does to that process alone.

The process that forks has one thread and has imported everything already, so a look costs about as much as the store
itself. The child leads a session, dies with its parent, and is killed with all that it started once it has answered
or its time is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from chaos.crashpoints import snapshot
from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise
from chaos.crashpoints.snapshot import Tree
from chaos.crashpoints.targets.base import Target, text_of
from chaos.errors import HarnessError

_SET_PDEATHSIG = 1
_CHUNK = 1 << 16
_WORDS_MAX = 400


class Checker:
    """Reopens states in `folder`, which it empties each time."""

    def __init__(self, target: Target, folder: Path, *, limit_s: float | None = None) -> None:
        """Make the folder. `limit_s`: in place of the target's own limit."""
        self._target = target
        self._limit_s = target.limit_s if limit_s is None else limit_s
        self._data = folder / "state"
        self._said = folder / "said.txt"
        self._unread = b""
        folder.mkdir(parents=True, exist_ok=True)
        self._stderr = os.open(self._said, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._prctl = libc.prctl if libc is not None else None

    def check(self, tree: Tree, promise: Promise) -> Observation:
        """Write the state out and let the target look at it. Raises HarnessError when the looking itself failed."""
        return self.check_all([(tree, promise)])[0]

    def check_all(self, states: Sequence[tuple[Tree, Promise]]) -> list[Observation]:
        """Look at several states, in one process as long as it lives. Raises HarnessError as `check` does.

        A process that died or was killed over one state looks at no further one; the rest gets a new process.
        """
        seen: list[Observation] = []
        while len(seen) < len(states):
            seen += self._look_at(states[len(seen) :])
        return seen

    def _look_at(self, states: Sequence[tuple[Tree, Promise]]) -> list[Observation]:
        """Start one process and return what it saw, the state it ended over included; never empty."""
        reader, writer = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._look(writer, parent, states)
        os.close(writer)
        seen: list[Observation] = []
        self._unread = b""
        status: int | None = None
        try:
            while status is None and len(seen) < len(states):
                answer, in_time = self._receive(reader)
                if not answer.endswith(b"\n"):
                    status = _end(child)
                seen.append(self._concluded(answer, status or 0, in_time=in_time))
        finally:
            os.close(reader)
            if status is None:
                _end(child)
        return seen

    def _receive(self, reader: int) -> tuple[bytes, bool]:
        """Read until the child has answered or ended; tell whether that came in time."""
        deadline = time.monotonic() + self._limit_s
        poll = select.poll()
        poll.register(reader, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                return self._unread, False
            chunk = os.read(reader, _CHUNK)
            if not chunk:
                return self._unread, True
            self._unread += chunk
        answer, _, self._unread = self._unread.partition(b"\n")
        return answer + b"\n", True

    def _concluded(self, answer: bytes, status: int, *, in_time: bool) -> Observation:
        if answer.endswith(b"\n"):
            word, _, rest = answer.partition(b" ")
            if word == b"seen":
                return msgspec.json.decode(rest, type=Observation)
            raise HarnessError(f"looking at a state of {self._target.name} failed: {rest.decode(errors='replace')}")
        if not in_time:
            return Observation(hung=f"no answer within {self._limit_s:g} s{self._words()}")
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            return Observation(killed=f"{signal.Signals(number).name}{self._words()}")
        return Observation(killed=f"exit status {os.waitstatus_to_exitcode(status)}{self._words()}")

    def _words(self) -> str:
        """Return the end of what the store wrote to stderr, and forget it."""
        text = " ".join(self._said.read_text(errors="replace").split())[-_WORDS_MAX:]
        os.ftruncate(self._stderr, 0)
        return f": {text}" if text else ""

    def _look(self, writer: int, parent: int, states: Sequence[tuple[Tree, Promise]]) -> NoReturn:
        """Be the child."""
        try:
            gc.disable()
            os.setsid()
            if self._prctl is not None:
                self._prctl(_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(self._stderr, 1)
            os.dup2(self._stderr, 2)
            if self._target.memory_bytes is not None:
                resource.setrlimit(resource.RLIMIT_AS, (self._target.memory_bytes, self._target.memory_bytes))
            for tree, promise in states:
                snapshot.clear(self._data)
                snapshot.write(tree, self._data)
                thorough = tree.digest[0] % self._target.thorough_every == 0
                seen = self._target.observe(self._data, promise, thorough=thorough)
                _say(writer, b"seen " + msgspec.json.encode(seen))
        except BaseException as error:  # noqa: BLE001  # whatever it is, it must not run on in a copy of the explorer
            _say(writer, b"failed " + text_of(error).encode(errors="replace"))
        os._exit(0)


def _say(writer: int, answer: bytes) -> None:
    left = memoryview(answer.replace(b"\n", b" ") + b"\n")
    while left:
        left = left[os.write(writer, left) :]


def _end(child: int) -> int:
    """Kill a child with its session, reap it, and return its status."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]
