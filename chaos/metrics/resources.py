"""What a process uses: memory, descriptors, and how late its event loop is. Linux; None elsewhere."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

_INTERVAL_S = 0.05


def resident_bytes(pid: int | None = None) -> int | None:
    """Return the resident memory of a process (ours by default), None when it cannot be told (proc(5), statm)."""
    try:
        text = Path(f"/proc/{pid or 'self'}/statm").read_text(encoding="ascii")
    except OSError:
        return None
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptor_count(pid: int | None = None) -> int | None:
    """Return how many file descriptors a process (ours by default) has open; None when it cannot be told."""
    try:
        return len(os.listdir(f"/proc/{pid or 'self'}/fd"))  # noqa: PTH208  # the names are not needed
    except OSError:
        return None


def size_bytes(path: Path) -> int:
    """Return the size of a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class LoopLag:
    """Measures how late the event loop runs what is due: a task that sleeps, and looks how long it slept."""

    def __init__(self) -> None:
        """Nothing is measured before `start`."""
        self._worst_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def take(self) -> float:
        """Return the greatest lag in seconds since the last call, and begin anew."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    async def stop(self) -> None:
        """End. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            due_s = time.perf_counter() + _INTERVAL_S
            await asyncio.sleep(_INTERVAL_S)
            self._worst_s = max(self._worst_s, time.perf_counter() - due_s)
