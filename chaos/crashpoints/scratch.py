"""The folder in which states are reopened: in memory where there is room, and gone after the run, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108  # a private folder is made in it
_ROOM_BYTES = 512 * 1024 * 1024
_TRIES = 200
_PAUSE_S = 0.05


@contextlib.contextmanager
def scratch(fallback: Path) -> Iterator[Path]:
    """Make a private folder, on tmpfs if there is one with room, else in `fallback`; remove it at the end.

    A process of its own waits for the end of a pipe that only this process holds, so the folder also goes when this
    process is killed. Call it before any thread is started: it forks.
    """
    base = _MEMORY if _has_room(_MEMORY) else fallback
    folder = Path(tempfile.mkdtemp(prefix="chaos-explore-", dir=base))
    reader, writer = os.pipe()
    janitor = os.fork()
    if janitor == 0:
        _wait_and_remove(reader, writer, folder)
    os.close(reader)
    try:
        yield folder
    finally:
        os.close(writer)
        os.waitpid(janitor, 0)


def _has_room(folder: Path) -> bool:
    try:
        return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM_BYTES
    except OSError:
        return False


def _wait_and_remove(reader: int, writer: int, folder: Path) -> None:
    """Be the janitor: outlive every signal to the group, and the explorer itself. Never returns."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(writer)
        while os.read(reader, 1):
            pass
        pause = threading.Event()
        for _ in range(_TRIES):  # processes that still write into it are dying just now
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            pause.wait(_PAUSE_S)
    finally:
        os._exit(0)
