"""Delays, short transfers, the full disk and counting, on a victim that makes plain system calls."""

from __future__ import annotations

import subprocess
import sys
import time

from tests_support import wait_until

WRITE_ALL = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
for size in map(int, sys.argv[2:]):
    try: print(os.write(fd, b"x" * size))
    except OSError as error: print(error.strerror)
"""


def test_delay(sandbox) -> None:
    """Every matching call sleeps for the time given, and the evidence holds the sum."""
    sandbox.arm("delay", "sync", delay_s=0.05)
    code = """
import os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
begin = time.monotonic()
for _ in range(3): os.fsync(fd)
print(time.monotonic() - begin)
"""
    took_s = float(sandbox.python(code, sandbox.store / "file").stdout)
    evidence = sandbox.disarm()
    assert took_s >= 0.15
    assert evidence["calls_delayed"] == 3
    assert 0.15 <= evidence["delay_s"] <= took_s


def test_disarm_wakes_a_delayed_call(sandbox) -> None:
    """Healing does not wait for the sleeper: a call delayed by a minute returns at once when disarmed."""
    sandbox.arm("delay", "sync", delay_s=60)
    code = "import os, sys; os.fsync(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR))"
    command = [sys.executable, "-c", code, str(sandbox.store / "file")]
    with subprocess.Popen(command, env=sandbox.environment) as victim:
        assert wait_until(lambda: sandbox.control.fired("f0") == 1)
        begin = time.monotonic()
        sandbox.disarm()
        assert victim.wait(timeout=10) == 0
    assert time.monotonic() - begin < 5


def test_short_write(sandbox) -> None:
    """Only the first bytes are written and counted; writes no longer than that are not concerned."""
    sandbox.arm("short", "write", keep_bytes=3, nth=1, count=1)
    assert sandbox.python(WRITE_ALL, sandbox.store / "file", 3, 5, 5).stdout.split() == ["3", "3", "5"]
    assert (sandbox.store / "file").stat().st_size == 11
    assert sandbox.disarm() == {"calls_matched": 2, "calls_shortened": 1}


def test_short_vectors(sandbox) -> None:
    """A vector is cut inside a part or between parts; reads as well as writes."""
    code = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
print(os.writev(fd, [b"ab", b"cdef", b"gh"]), os.pwritev(fd, [b"123", b"456"], 0))
into = [bytearray(2), bytearray(4)]
print(os.preadv(fd, into, 0), bytes(into[0]) + bytes(into[1]))
print(os.pread(fd, 6, 0))
"""
    sandbox.arm("short", "write", keep_bytes=4, rule_id="w")
    sandbox.arm("short", "read", keep_bytes=3, rule_id="r")
    out = sandbox.python(code, sandbox.store / "file").stdout.splitlines()
    assert out == ["4 4", "3 b'123\\x00\\x00\\x00'", "b'123'"]
    assert (sandbox.store / "file").read_bytes() == b"1234"


def test_full_disk(sandbox) -> None:
    """Bytes go through while the budget lasts, the write at the edge is cut, then nothing fits."""
    sandbox.arm("full", "write", budget_bytes=10)
    out = sandbox.python(WRITE_ALL, sandbox.store / "file", 4, 4, 4, 4, 1).stdout.splitlines()
    assert out == ["4", "4", "2", *["No space left on device"] * 2]
    assert (sandbox.store / "file").stat().st_size == 10
    assert sandbox.control.evidence("f0") == {
        "calls_matched": 5,
        "calls_failed": 2,
        "calls_shortened": 1,
        "bytes_written": 10,
    }
    sandbox.control.set_budget("f0", 13)
    assert sandbox.python(WRITE_ALL, sandbox.store / "file", 5, 1).stdout.splitlines() == [
        "3",
        "No space left on device",
    ]
    sandbox.disarm()
    assert sandbox.python(WRITE_ALL, sandbox.store / "file", 5).stdout == "5\n"


def test_full_disk_allocates_all_or_nothing(sandbox) -> None:
    """An allocation that does not fit fails whole and leaves the budget to smaller ones."""
    code = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
for size in (8, 4):
    try: os.posix_fallocate(fd, 0, size); print("ok")
    except OSError as error: print(error.strerror)
"""
    sandbox.arm("full", "allocate", budget_bytes=5)
    assert sandbox.python(code, sandbox.store / "file").stdout.splitlines() == ["No space left on device", "ok"]


def test_writes_that_fail_cost_no_budget(sandbox) -> None:
    """Bytes that the kernel refuses are given back: the budget is for bytes on the disk."""
    code = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDONLY)
try: os.write(fd, b"12345678")
except OSError as error: print(error.strerror)
"""
    sandbox.arm("full", "write", budget_bytes=8)
    assert sandbox.python(code, sandbox.store / "file").stdout == "Bad file descriptor\n"
    assert sandbox.disarm()["bytes_written"] == 0


def test_count_counts_successes_only(sandbox) -> None:
    """A call that fails, by the kernel or by a rule, matches a counting rule but is not counted."""
    sandbox.arm("count", "write", rule_id="successes")
    sandbox.arm("errno", "write", error="EIO", nth=2, count=1)
    out = sandbox.python(WRITE_ALL, sandbox.store / "file", 1, 1, 1).stdout.splitlines()
    assert out == ["1", "Input/output error", "1"]
    assert sandbox.disarm("successes") == {"calls_matched": 3, "calls_counted": 2}


def test_nth_and_count(sandbox) -> None:
    """From the nth match on, exactly `count` calls act; rules are counted apart."""
    sandbox.arm("errno", "write", error="EIO", nth=2, count=2)
    sandbox.arm("errno", "write", error="ENOSPC", nth=5, count=0, rule_id="f1")
    out = sandbox.python(WRITE_ALL, sandbox.store / "file", *[1] * 6).stdout.splitlines()
    assert out == ["1", *["Input/output error"] * 2, "1", *["No space left on device"] * 2]


def test_clock_and_records(sandbox) -> None:
    """Records come in order with the shared clock, the place in the file and the process."""
    sandbox.arm("errno", "write", error="EIO", nth=2, count=1)
    sandbox.python(WRITE_ALL, sandbox.store / "file", 5, 7)
    sandbox.python(WRITE_ALL, sandbox.other / "file", 5)
    sandbox.disarm()
    (record,) = sandbox.control.records()
    assert (record.offset, record.size_bytes, record.rule_id, record.action) == (5, 7, "f0", "errno")
    assert record.clock == 3, "an open and two writes"
    assert sandbox.control.clock == 5, "and an open and a write of the other store"


def test_records_wrap(sandbox) -> None:
    """When more was injected than the ring holds, the latest records are there."""
    sandbox.arm("errno", "write", error="EIO")
    code = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
for _ in range(5000):
    try: os.write(fd, b"x")
    except OSError: pass
"""
    sandbox.python(code, sandbox.store / "file")
    records = sandbox.control.records()
    assert [record.sequence for record in records] == list(range(5000 - 4096 + 1, 5001))
    assert sandbox.disarm()["calls_failed"] == 5000
