"""What the data faults do: lies, lost, torn and misdirected writes, rot, drawn and ranged rules, and death for all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import wait_until

from chaos.faults.disk.oplog import DROPPED, LIED, Kind, read_log
from chaos.faults.disk.replay import FolderState, apply

WRITE = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
def tell(call, *values):
    try: print(call(*values))
    except OSError as error: print(error.strerror)
"""


def run(sandbox, code: str, name: str = "f", **options: object) -> list[str]:
    """Run code on a file of the store, open as `fd`, and return the lines it prints."""
    return sandbox.python(WRITE + code, sandbox.store / name, **options).stdout.splitlines()


def test_fsync_lies(sandbox, tmp_path: Path) -> None:
    """A sync that lies returns success, is marked in the log, and the next file's is untouched; healing ends it."""
    sandbox.control.record(tmp_path / "log")
    sandbox.arm("lie", "sync", path="store/f")
    code = "os.write(fd, b'x'); tell(os.fsync, fd); tell(os.fdatasync, fd)"
    assert run(sandbox, code) == ["None", "None"]
    assert run(sandbox, code, "g") == ["None", "None"]
    assert sandbox.disarm() == {"calls_matched": 2, "calls_lied_to": 2}
    assert run(sandbox, code) == ["None", "None"]
    sandbox.control.write_out()
    syncs = [(one.name, bool(one.flags & LIED)) for one in read_log(tmp_path / "log") if one.kind is Kind.SYNC]
    assert syncs == [("store/f", True)] * 2 + [("store/g", False)] * 2 + [("store/f", False)] * 2


@pytest.mark.parametrize(("dropped", "flags"), [(True, DROPPED), (False, 0)])
def test_fsync_fails(sandbox, tmp_path: Path, dropped: bool, flags: int) -> None:
    """A failed sync is EIO for the program, and the log says what became of the pages; once, then all is well."""
    sandbox.control.record(tmp_path / "log")
    sandbox.arm("sync_fail", "fsync", pages="dropped" if dropped else "kept", count=1)
    assert run(sandbox, "os.write(fd, b'x'); tell(os.fsync, fd); tell(os.fsync, fd)") == ["Input/output error", "None"]
    assert sandbox.disarm() == {"calls_matched": 2, "calls_failed": 1}
    sandbox.control.write_out()
    kinds = [(one.kind, one.flags) for one in read_log(tmp_path / "log") if one.kind in {Kind.SYNC, Kind.SYNC_FAILED}]
    assert kinds == [(Kind.SYNC_FAILED, flags), (Kind.SYNC, 0)]


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("tell(os.write, fd, b'abc'); tell(os.write, fd, b'def'); tell(os.write, fd, b'ghi')", b"abc\0\0\0ghi"),
        ("for n in range(3): tell(os.pwrite, fd, b'xyz', 3 * n)", b"xyz\0\0\0xyz"),
        ("for n in range(3): tell(os.writev, fd, [b'x', b'yz'])", b"xyz\0\0\0xyz"),
    ],
    ids=["write", "pwrite", "writev"],
)
def test_lost_write(sandbox, tmp_path: Path, code: str, left: bytes) -> None:
    """The second write is said to have succeeded and left nothing; the position moved on; the log replays to that."""
    sandbox.control.record(tmp_path / "log")
    before = FolderState.read(sandbox.root)
    sandbox.arm("lie", "write", nth=2, count=1)
    assert run(sandbox, code) == ["3", "3", "3"]
    assert (sandbox.store / "f").read_bytes() == left
    assert sandbox.disarm() == {"calls_matched": 3, "calls_lied_to": 1}
    sandbox.control.write_out()
    log = read_log(tmp_path / "log")
    writes = [(one.offset, bool(one.flags & LIED)) for one in log if one.kind is Kind.WRITE]
    assert writes == [(0, False), (3, True), (6, False)]
    assert apply(log, before).contents()["store/f"] == left
    (record,) = sandbox.control.records()
    assert (record.action, record.offset) == ("lie", 3)


@pytest.mark.parametrize(
    "code", ["os.write(fd, data)", "os.pwrite(fd, data, 0)", "os.writev(fd, [data[:600], data[600:]])"]
)
def test_misdirected_write(sandbox, tmp_path: Path, code: str) -> None:
    """The bytes land further on, and the next write goes where it would have gone anyway."""
    sandbox.control.record(tmp_path / "log")
    before = FolderState.read(sandbox.root)
    sandbox.arm("misdirect", "write", shift_bytes=1024, count=1)
    out = run(sandbox, f"data = b'a' * 1000; print({code}); print(os.lseek(fd, 0, 1)); os.pwrite(fd, b'b', 0)")
    assert out == ["1000", "0" if "pwrite" in code else "1000"]
    assert (sandbox.store / "f").read_bytes() == b"b" + bytes(1023) + b"a" * 1000
    assert sandbox.disarm() == {"calls_matched": 2, "writes_misdirected": 1}
    sandbox.control.write_out()
    assert apply(read_log(tmp_path / "log"), before).contents()["store/f"] == (sandbox.store / "f").read_bytes()


@pytest.mark.parametrize(
    "code", ["os.pwrite(fd, data, 100)", "os.lseek(fd, 100, 0); os.writev(fd, [data[:50], data[50:]])"]
)
def test_torn_write(sandbox, code: str) -> None:
    """The write is cut at a sector of the file and the process dies; which sector is the seed's choice."""
    lengths = set()
    for seed in range(8):
        path = sandbox.store / f"f{seed}"
        sandbox.arm("tear", "write", unit_bytes=512, count=1, seed=seed)
        victim = WRITE + f"data = b'x' * 3000; os.write(fd, b'small'); {code}"
        assert sandbox.run(sys.executable, "-c", victim, path).returncode == -9
        assert sandbox.disarm() == {"calls_matched": 1, "processes_killed": 1}
        lengths.add(path.stat().st_size)
    assert lengths <= {512 * number for number in range(1, 7)}
    assert len(lengths) > 2


def test_bit_rot(sandbox) -> None:
    """Reads return one flipped bit in each unit, the same on every read and by every call; the file is as it was."""
    data = os.urandom(64 * 1024)
    (sandbox.store / "f").write_bytes(data)
    sandbox.arm("rot", "read", path="store/f", unit_bytes=4096, seed=5)
    code = """
size = 65536
whole = os.pread(fd, size, 0)
assert whole == os.read(fd, size) == b"".join(os.pread(fd, 1000, at) for at in range(0, size, 1000))
parts = [bytearray(5000), bytearray(size)]; assert os.preadv(fd, parts, 0) == size
assert bytes(parts[0]) + bytes(parts[1])[:size - 5000] == whole
sys.stdout.write(whole.hex())
"""
    read = bytes.fromhex(run(sandbox, code)[0])
    flipped = [(at, (a ^ b).bit_count()) for at, (a, b) in enumerate(zip(read, data, strict=True)) if a != b]
    assert [at // 4096 for at, _ in flipped] == list(range(16))
    assert {bits for _, bits in flipped} == {1}
    assert (sandbox.store / "f").read_bytes() == data
    evidence = sandbox.disarm()
    assert evidence["reads_changed"] == 3 + 16
    assert evidence["bits_flipped"] == 16 * 4
    assert bytes.fromhex(run(sandbox, code)[0]) == data, "healed"


def test_bit_rot_by_probability_and_range(sandbox) -> None:
    """Only some places rot, by probability, and only those in the range; an untouched read is not counted."""
    (sandbox.store / "f").write_bytes(bytes(1 << 20))
    sandbox.arm("rot", "read", unit_bytes=1024, probability=0.25, offsets=[1 << 18, 1 << 19], seed=1)
    code = """
data = os.pread(fd, 1 << 20, 0)
print(len(data) - data.count(0)); print((1 << 18) - data[1 << 18:1 << 19].count(0)); os.pread(fd, 100, 1 << 19)
"""
    out = run(sandbox, code)
    assert out[0] == out[1]
    assert 30 < int(out[0]) < 100
    assert sandbox.disarm()["reads_changed"] == 1


def test_probability(sandbox) -> None:
    """About the share asked for fails, and the same seed picks the same calls."""
    chosen = []
    code = """
def fails(n):
    try: os.pwrite(fd, b"x", n)
    except OSError: return True
print([n for n in range(400) if fails(n)])
"""
    for seed in (3, 3, 4):
        sandbox.arm("errno", "write", error="EIO", probability=0.1, seed=seed)
        chosen.append(run(sandbox, code)[0])
        assert sandbox.disarm()["calls_failed"] == chosen[-1].count(",") + 1
    assert chosen[0] == chosen[1] != chosen[2]
    assert 15 < chosen[0].count(",") < 70


def test_offset_range(sandbox) -> None:
    """Only calls that touch the range match, positioned or not; a sync has no place and does not."""
    sandbox.control.arm(
        "f0",
        {
            "action": "errno",
            "calls": ["write", "sync", "truncate"],
            "path": "store/*",
            "error": "EIO",
            "offsets": [100, 200],
        },
    )
    code = """
for place, size in ((0, 100), (0, 101), (199, 1), (200, 1)): tell(os.pwrite, fd, b"x" * size, place)
os.lseek(fd, 150, 0); tell(os.write, fd, b"x"); tell(os.fsync, fd); tell(os.ftruncate, fd, 150)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
os.ftruncate(fd, 99); tell(os.write, fd, b"x"); tell(os.write, fd, b"x")
"""
    error = "Input/output error"
    assert run(sandbox, code) == ["100", error, error, "1", error, "None", error, "1", error]
    assert sandbox.disarm()["calls_matched"] == 5


def test_drawn_delays(sandbox) -> None:
    """A tail draws another delay for each call, and bytes cost time; the evidence holds what was slept."""
    sandbox.arm("delay", "write", delay_s=0.0, spread="tail", spread_s=0.001, seed=1)
    run(sandbox, "for _ in range(20): os.write(fd, b'x')")
    delays = sorted(record.amount for record in sandbox.control.records())
    assert len(set(delays)) == 20
    assert delays[-1] > 3 * delays[10]
    assert float(sandbox.disarm()["delay_s"]) >= sum(delays) / 1e9
    sandbox.arm("delay", "write", delay_s=0.0, s_per_mib=0.5)
    run(sandbox, "os.write(fd, b'x' * (1 << 18))")
    assert 0.12 < float(sandbox.disarm()["delay_s"]) < 2


def test_space_is_freed(sandbox) -> None:
    """After so many failed calls there is room again, once."""
    sandbox.arm("full", "write", budget_bytes=4, freed_bytes=3, freed_after=2)
    full = "No space left on device"
    assert run(sandbox, "for _ in range(7): tell(os.write, fd, b'xx')") == ["2", "2", full, full, "2", "1", full]
    assert sandbox.disarm()["calls_failed"] == 3


VICTIM = """
import os, sys
if len(sys.argv) > 2 and os.fork() == 0: sys.argv[1] += ".child"
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
number = 0
while True:
    number += 1
    os.pwrite(fd, b"%d" % number, 0)
"""


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("action", ["kill_all", "kill_all_after"])
def test_all_die_at_one_moment(sandbox, tmp_path: Path, action: str, recorded: bool) -> None:
    """Every process of the run dies, a forked child too; nothing is executed after the moment; later programs live."""
    if recorded:
        sandbox.control.record(tmp_path / "log")
    before = FolderState.read(sandbox.root)
    paths = [sandbox.store / "a", sandbox.other / "b", sandbox.store / "a.child"]
    command = [sys.executable, "-c", VICTIM]
    with (
        subprocess.Popen([*command, paths[0], "fork"], env=sandbox.environment) as one,
        subprocess.Popen([*command, paths[1]], env=sandbox.environment) as two,
        subprocess.Popen(["/bin/sleep", "60"]) as stranger,
    ):
        assert wait_until(lambda: all(path.exists() and path.stat().st_size > 1 for path in paths), 20)
        sandbox.arm(action, "write", path="other/*", count=1)
        assert (one.wait(20), two.wait(20)) == (-9, -9)
        assert stranger.poll() is None
        stranger.kill()
    clock = sandbox.control.clock
    assert sandbox.disarm()["processes_killed"] == 1
    (record,) = sandbox.control.records()
    assert (record.action, record.path) == (action, "other/b")
    assert run(sandbox, "tell(os.write, fd, b'alive')", "later") == ["5"]
    assert sandbox.control.clock > clock
    if recorded:
        sandbox.control.write_out()
        log = read_log(tmp_path / "log")
        assert not [one for one in log if one.kind is Kind.TAINT]
        assert apply(log, before).contents() == FolderState.read(sandbox.root).contents()
        last = [one for one in log if one.kind is Kind.WRITE and not one.name.endswith("later")][-1]
        if action == "kill_all_after":
            assert last.name == "other/b"


def test_a_doomed_child_makes_no_more_calls(sandbox) -> None:
    """A child that was forked before and waits at the moment dies at its next call."""
    code = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
r, w = os.pipe()
if os.fork() == 0:
    os.close(w); os.read(r, 1)  # until the parent is dead
    os.write(fd, b"late"); os._exit(0)
os.write(fd, b"x")
"""
    sandbox.arm("kill_all", "write", count=1)
    done = sandbox.run(sys.executable, "-c", code, sandbox.store / "f")
    assert done.returncode == -9
    assert (sandbox.store / "f").read_bytes() == b""
