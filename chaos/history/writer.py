"""Writes history.jsonl so that a kill of the harness loses nothing that was said before it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from chaos.errors import HarnessError
from chaos.history.model import Entry, Kind

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class HistoryWriter:
    """An append-only file of entries, one JSON object a line.

    `append` hands a whole line to the kernel in one write on an O_APPEND descriptor before it returns, so the
    entry survives SIGKILL of this process (not a power cut of the machine: nothing is synced; the harness
    does not cut its own power). Use it from one thread.
    """

    def __init__(self, path: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Create the file and start the run's clock.

        path: must not hold anything yet; its folder exists. clock: monotonic nanoseconds. Raises HarnessError.
        """
        self.path = path
        self._clock = clock
        self._encoder = msgspec.json.Encoder()
        self._next_index = 0
        try:
            self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _failure(path, error) from error
        self._size_bytes = os.fstat(self._descriptor).st_size
        if self._size_bytes:
            size_bytes = self._size_bytes
            self.close()
            raise HarnessError(f"{path}: holds {size_bytes} bytes of another run; a history is written only once")
        self._start_ns = clock()

    @property
    def start_ns(self) -> int:
        """The clock's reading at creation; times of entries count from here."""
        return self._start_ns

    def now_ns(self) -> int:
        """Return nanoseconds since creation, the time that an entry appended now would get."""
        return self._clock() - self._start_ns

    def append(
        self,
        kind: Kind,
        f: str,
        *,
        process: int | None = None,
        token: str | None = None,
        fault: str | None = None,
        value: Any = None,
        error: str | None = None,
    ) -> Entry:
        """Write one entry and return it, with the index and time it was given.

        value: anything that is plain JSON. Raises HarnessError when the file cannot take it (the file then
        still ends with the last whole line), when it is closed, or when `value` is not plain JSON.
        """
        entry = Entry(
            index=self._next_index,
            time_ns=self.now_ns(),
            kind=kind,
            f=f,
            process=process,
            token=token,
            fault=fault,
            value=value,
            # Errors quote file names and replies, which need not be text; a lone surrogate is no UTF-8.
            error=error if error is None else error.encode("utf-8", "backslashreplace").decode(),
        )
        try:
            line = self._encoder.encode(entry) + b"\n"
        except (TypeError, ValueError, OverflowError) as problem:
            text = f"{self.path}: entry {entry.index} ({kind} {f}) is not plain JSON: {problem}"
            raise HarnessError(text) from problem
        self._write(line)
        self._next_index += 1
        return entry

    def _write(self, line: bytes) -> None:
        """Write all of `line`, or nothing of it."""
        if self._descriptor is None:
            raise HarnessError(f"{self.path}: the history is closed")
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):  # a nearly full disk takes part of a line first, and refuses only then
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # what cannot be cut back is a torn last line, which readers accept
                os.ftruncate(self._descriptor, self._size_bytes)
            raise _failure(self.path, error) from error
        self._size_bytes += len(line)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _failure(path: Path, error: OSError) -> HarnessError:
    """Say what went wrong with the file and what to do about it."""
    if error.errno in _FULL:
        remedy = "free some space there, or choose another place with --out, then repeat the run"
        return HarnessError(f"{path}: no room for the history ({error.strerror}); {remedy}")
    remedy = "check that its folder exists and can be written to, or choose another place with --out"
    return HarnessError(f"{path}: the history cannot be written ({error.strerror or error}); {remedy}")
