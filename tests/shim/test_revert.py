"""A failed sync after which reads see the old bytes again, as with btrfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.crashpoints.model import Disk
from chaos.crashpoints.names import View
from chaos.crashpoints.snapshot import read
from chaos.faults.disk.oplog import Kind, read_log
from chaos.faults.disk.replay import FolderState, apply

HEAD = """
import os, sys, threading
path = sys.argv[1]
def sync(fd, call=os.fsync):
    try:
        call(fd)
        print("synced")
    except OSError as error:
        print(error.strerror)
def show(name=path):
    print(open(name, "rb").read())
"""
FAILED = "Input/output error"


def run(sandbox, code: str) -> list[str]:
    """Run the code on the store's file "f", which holds "0123456789" and is on the disk; return what it prints."""
    (sandbox.store / "f").write_bytes(b"0123456789")
    done = sandbox.python(HEAD + code, sandbox.store / "f")
    assert done.returncode == 0, done.stderr
    return list(done.stdout.splitlines())


CASES = {
    "overwritten": ("fd = os.open(path, os.O_RDWR); os.pwrite(fd, b'abc', 2); show(); sync(fd); show()", [b"01abc56789", FAILED, b"0123456789"]),
    "grown": ("fd = os.open(path, os.O_RDWR); os.pwrite(fd, b'abcdef', 8); sync(fd); show()", [FAILED, b"0123456789"]),
    "far": ("fd = os.open(path, os.O_RDWR); os.pwrite(fd, b'x', 50); sync(fd); show()", [FAILED, b"0123456789"]),
    "again and again": ("fd = os.open(path, os.O_RDWR)\nfor n in range(9): os.pwrite(fd, b'abc'[n % 3:], n)\nsync(fd, os.fdatasync); show()", [FAILED, b"0123456789"]),
    "vector": ("fd = os.open(path, os.O_RDWR); os.writev(fd, [b'ab', b'cdef']); sync(fd); show()", [FAILED, b"0123456789"]),
    "appended": ("fd = os.open(path, os.O_WRONLY | os.O_APPEND); os.write(fd, b'abc'); sync(fd); show()", [FAILED, b"0123456789"]),
    "write only": ("fd = os.open(path, os.O_WRONLY); os.write(fd, b'abc'); sync(fd); show()", [FAILED, b"0123456789"]),
    "cut": ("fd = os.open(path, os.O_RDWR); os.ftruncate(fd, 4); sync(fd); show()", [FAILED, b"0123456789"]),
    "cut by name": ("fd = os.open(path, os.O_RDWR); os.truncate(path, 4); sync(fd); show()", [FAILED, b"0123456789"]),
    "cut and grown": ("fd = os.open(path, os.O_RDWR); os.ftruncate(fd, 4); os.pwrite(fd, b'abcdefgh', 6); sync(fd); show()", [FAILED, b"0123456789"]),
    "allocated": ("fd = os.open(path, os.O_RDWR); os.posix_fallocate(fd, 0, 99); sync(fd); show()", [FAILED, b"0123456789"]),
    "synced before": ("fd = os.open(path, os.O_RDWR); os.pwrite(fd, b'new', 0); sync(fd); os.pwrite(fd, b'x', 9); sync(fd); show()", ["synced", FAILED, b"new3456789"]),
    "another descriptor": ("a, b = (os.open(path, os.O_RDWR) for _ in 'ab'); os.pwrite(a, b'abc', 0); os.close(a); sync(b); show()", [FAILED, b"0123456789"]),
    "another file": ("g = os.open(path + 'g', os.O_RDWR | os.O_CREAT); os.write(g, b'abc'); sync(g)\nfd = os.open(path, os.O_RDWR); os.pwrite(fd, b'x', 0); sync(fd); show(path + 'g'); show()", ["synced", FAILED, b"abc", b"0123456789"]),
    "in threads": ("fd = os.open(path, os.O_RDWR)\nthreads = [threading.Thread(target=os.pwrite, args=(fd, b'x' * 50, n)) for n in range(8)]\n[one.start() for one in threads]; [one.join() for one in threads]; sync(fd); show()", [FAILED, b"0123456789"]),
    "the position stays": ("fd = os.open(path, os.O_RDWR); os.lseek(fd, 0, 2); os.write(fd, b'abc'); sync(fd); os.write(fd, b'def'); sync(fd); show()", [FAILED, "synced", b"0123456789\0\0\0def"]),
    "nothing to bring back": ("fd = os.open(path, os.O_RDWR); sync(fd); show()", [FAILED, b"0123456789"]),
}  # fmt: skip


@pytest.mark.parametrize(
    "recorded", [pytest.param(False, id="unrecorded", marks=pytest.mark.deep), pytest.param(True, id="recorded")]
)
@pytest.mark.parametrize("case", CASES)
def test_reads_see_the_old_bytes(sandbox, tmp_path: Path, case: str, recorded: bool) -> None:
    """Content and length are those of the last sync, once; a log tells it so that a replay gives the same folder."""
    code, said = CASES[case]
    (sandbox.store / "f").write_bytes(b"0123456789")
    before = FolderState.read(sandbox.root)
    if recorded:
        sandbox.control.record(tmp_path / "log")
    nth = 2 if case == "synced before" else 1
    sandbox.arm("sync_fail", ("fsync", "fdatasync"), "store/f", pages="reverted", nth=nth, count=1)
    assert run(sandbox, code) == [one if isinstance(one, str) else str(one) for one in said]
    evidence = sandbox.disarm()
    assert evidence["calls_failed"] == 1
    if recorded:
        sandbox.control.stop_recording()
        assert apply(read_log(tmp_path / "log"), before).contents() == FolderState.read(sandbox.root).contents()


@pytest.mark.parametrize(
    ("pages", "seen"), [("reverted", b"0123456789"), ("dropped", b"01abc56789"), ("kept", b"01abc56789")]
)
def test_the_three_kinds_differ(sandbox, tmp_path: Path, pages: str, seen: bytes) -> None:
    """What reads see, and what a loss of power leaves when the next sync has succeeded: only "kept" has the bytes."""
    (sandbox.store / "f").write_bytes(b"0123456789")
    start = read(sandbox.root)
    sandbox.control.record(tmp_path / "log")
    sandbox.arm("sync_fail", ("fsync",), pages=pages, count=1)
    code = "fd = os.open(path, os.O_RDWR); os.pwrite(fd, b'abc', 2); sync(fd); show(); os.pwrite(fd, b'X', 9); sync(fd)"
    assert run(sandbox, code) == [FAILED, str(seen), "synced"]
    sandbox.control.stop_recording()
    disk = Disk(start)
    for index, operation in enumerate(read_log(tmp_path / "log")):
        disk.apply(index, operation)
    durable = b"01abc5678X" if pages == "kept" else b"012345678X"
    assert disk.synced(View.POSIX).files["store/f"].data == durable
    now = (sandbox.store / "f").read_bytes()
    assert disk.now().files["store/f"].data == now == seen[:9] + b"X"


def test_nothing_is_kept_without_such_a_rule(sandbox, tmp_path: Path) -> None:
    """Other rules leave no trace of old bytes: a failed sync there changes nothing in the file."""
    sandbox.arm("errno", ("fsync",), error="EIO", count=1)
    code = "fd = os.open(path, os.O_RDWR); os.pwrite(fd, b'abc', 2); sync(fd); show()"
    assert run(sandbox, code) == [FAILED, str(b"01abc56789")]


def test_more_than_there_is_room_for_is_not_half_reverted(sandbox) -> None:
    """A file with more unsynced changes than are kept is synced as usual, and the rule has not acted; then it can."""
    sandbox.arm("sync_fail", ("fsync",), pages="reverted")
    code = """
fd = os.open(path, os.O_RDWR)
for n in range(5000):
    os.pwrite(fd, b'x', n % 10)
sync(fd)
show()
os.pwrite(fd, b'y', 0)
sync(fd)
show()
"""
    assert run(sandbox, code) == ["synced", str(b"x" * 10), FAILED, str(b"x" * 10)]
    assert sandbox.disarm()["calls_failed"] == 1


def test_a_failed_sync_is_in_the_log_behind_what_it_brought_back(sandbox, tmp_path: Path) -> None:
    """The putting back is recorded as a write and a cut, and then all of it is dropped."""
    sandbox.control.record(tmp_path / "log")
    sandbox.arm("sync_fail", ("fsync",), pages="reverted", count=1)
    run(sandbox, "fd = os.open(path, os.O_RDWR); os.pwrite(fd, b'abc', 8); sync(fd)")
    sandbox.control.stop_recording()
    changing = (Kind.WRITE, Kind.TRUNCATE, Kind.SYNC_FAILED)
    kinds = [one.kind for one in read_log(tmp_path / "log") if one.kind in changing]
    assert kinds == [Kind.WRITE, Kind.WRITE, Kind.TRUNCATE, Kind.SYNC_FAILED]
