"""A sandbox whose changes are recorded, for the tests of the operation log."""

from __future__ import annotations

from pathlib import Path

from chaos.faults.disk.oplog import Operation, read_log
from chaos.faults.disk.replay import FolderState, apply

PREAMBLE = """
import ctypes, os, signal, socket, subprocess, sys, threading, fcntl, tempfile, time
store, other, outside = sys.argv[1:4]
libc = ctypes.CDLL(None, use_errno=True)
OLD = os.uname().machine == "x86_64"
def raw(number, *values): return ctypes.CDLL(os.environ["RAW"]).raw(number, *map(ctypes.c_long, values), *[ctypes.c_long(0)] * (6 - len(values)))
def create(path, flags=0): return os.open(path, os.O_CREAT | os.O_RDWR | flags)
"""


class Recorder:
    """A sandbox with a log: runs code under it and reads what was recorded."""

    def __init__(self, sandbox, path: Path) -> None:
        """Snapshot the root and begin the log at `path`."""
        self.sandbox = sandbox
        self.forgive = False  # do not compare at the end
        self.path = path
        self.before = FolderState.read(sandbox.root)
        sandbox.control.record(path)

    def run(self, code: str, **options: object) -> list[Operation]:
        """Run code and return the log without the opens and closes of Python itself."""
        sandbox = self.sandbox
        done = sandbox.python(PREAMBLE + code, sandbox.store, sandbox.other, sandbox.root.parent, **options)
        assert done.returncode == 0, done.stderr
        return self.read()

    def read(self) -> list[Operation]:
        """Return the log as it is."""
        self.sandbox.control.write_out()
        return read_log(self.path)

    def replayed(self) -> dict[str, bytes | str | None]:
        """Return what the log makes of the folder as it was at the start."""
        return apply(self.read(), self.before).contents()

    def real(self) -> dict[str, bytes | str | None]:
        """Return what the folder holds."""
        return FolderState.read(self.sandbox.root).contents()
