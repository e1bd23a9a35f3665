"""What strace is told for each file fault, what is refused, and how its log is read."""

from __future__ import annotations

import pytest

from chaos import faults
from chaos.faults.disk.fault import DiskFault
from chaos.faults.disk.layout import Action
from chaos.faults.disk.tracing import Injection, injection_of, read_log

REFUSED: list[tuple[faults.Fault, str]] = [
    (faults.BitRot("sqlite"), "reads or writes"),
    (faults.ShortRead("sqlite", 10), "reads or writes"),
    (faults.ShortWrite("sqlite", 10), "reads or writes"),
    (faults.TornWrite("sqlite"), "reads or writes"),
    (faults.LostWrite("sqlite"), "reads or writes"),
    (faults.MisdirectedWrite("sqlite"), "reads or writes"),
    (faults.DiskFull("sqlite", budget_bytes=4096), "budget_bytes=0"),
    (faults.DiskFull("sqlite", freed_bytes=10, freed_after=1), "never free"),
    (faults.DiskDelay("sqlite", "1ms", spread="tail", spread_by="1ms"), "one length"),
    (faults.DiskDelay("sqlite", "1ms", bytes_per_s=1000), "one length"),
    (faults.KillAtCall("sqlite", "sync", after=True), "before the call"),
    (faults.KillAtCall("sqlite", "sync", group=True), "one process"),
    (faults.DiskError("sqlite", probability=0.5), "probability"),
    (faults.DiskError("sqlite", offsets=(0, 10)), "offset"),
    (faults.FsyncFails("sqlite", pages="reverted"), "what a file holds"),
    (faults.PowerLoss(), "no log"),
]

DONE: list[tuple[DiskFault, str]] = [
    (faults.DiskError("sqlite", call="fsync", nth=3), "?fsync:error=EIO:when=3"),
    (faults.DiskError("sqlite", call="pwrite", error="ENOSPC", count=0), "?pwrite64:error=ENOSPC:when=1+"),
    (faults.DiskError("sqlite", call="rename", nth=2, count=3), "?rename,?renameat,?renameat2:error=EIO:when=2..4"),
    (faults.FsyncFails("sqlite"), "?fsync,?fdatasync:error=EIO:when=1"),
    (faults.DiskDelay("sqlite", "20ms", call="fdatasync"), "?fdatasync:delay_enter=20000:when=1+"),
    (faults.KillAtCall("sqlite", "fsync", nth=7), "?fsync:signal=KILL:when=7"),
]


@pytest.mark.parametrize(("fault", "reason"), REFUSED, ids=lambda value: repr(value)[:60])
def test_refused_with_a_reason(fault: faults.Fault, reason: str) -> None:
    """Whatever strace cannot do says why, and only where strace is asked for."""
    assert reason in str(fault.refused_by("strace"))
    assert fault.refused_by("embedded") is None


@pytest.mark.parametrize(("fault", "words"), DONE, ids=lambda value: repr(value)[:60])
def test_done_as_told(fault: DiskFault, words: str) -> None:
    """The rule of a fault becomes strace's words; calls are named as the kernel names them."""
    assert fault.refused_by("strace") is None
    assert injection_of(fault.rule()).arguments()[-1] == f"inject={words}"


def test_a_full_disk_and_a_lie() -> None:
    """The two that strace can do in part: allocations and writes without space, and syncs that answer at once."""
    full = injection_of(faults.DiskFull("sqlite").rule())
    assert {"write", "pwrite64", "fallocate"} <= set(full.calls)
    assert full.effect == "error=ENOSPC"
    assert injection_of(faults.FsyncLies("sqlite").rule()).effect == "retval=0"


def test_only_calls_that_can_fail_so_are_touched() -> None:
    """Of a family, those calls that never report the error are left alone."""
    assert "syncfs" not in injection_of(faults.DiskError("sqlite", call="sync", error="EINTR").rule()).calls


def test_a_mistaken_fault_is_told_elsewhere() -> None:
    """A rule that cannot be translated because it is wrong is no refusal."""
    assert faults.DiskError("sqlite", error="EPONY").refused_by("strace") is None


ERRORS = """\
10 1000.000100 fdatasync(7 <unfinished ...>
11 1000.000200 fdatasync(7)    = 0
10 1000.000300 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)
12 1000.000400 pwrite64(7, "(INJECTED)"..., 10, 0) = 10
11 1000.000500 +++ exited with 0 +++
12 1000.000600 fsync(7) = 0 (DELAYED)
13 1000.0007"""

DEATH = """\
10 1000.000100 pwrite64(3, ""..., 10, 20) = 10
11 1000.000150 pwrite64(3, ""..., 10, 20) = 10
10 1000.000200 pwrite64(3, ""..., 10, 30 <unfinished ...>
11 1000.000300 +++ killed by SIGKILL +++
10 1000.000400 <... pwrite64 resumed>) = ?
10 1000.000500 +++ killed by SIGKILL +++
9 1000.000600 +++ killed by SIGKILL +++
"""


def _injection(action: Action, nth: int = 1) -> Injection:
    return Injection(action, ("fsync",), "", nth, 1)


def test_a_log_of_errors() -> None:
    """Calls are counted when they begin, blows by strace's own word at the end of a line; a cut line counts nothing."""
    told = read_log(ERRORS.splitlines(), _injection(Action.ERRNO))
    assert (told.matched, told.fired, told.struck_s) == (4, 2, 1000.0006)
    assert told.evidence(Action.ERRNO) == {"calls_matched": 4, "calls_failed": 2}


def test_a_log_of_a_death() -> None:
    """One process died, at the nth call of a thread that never got through it; others of its threads do not count."""
    told = read_log(DEATH.splitlines(), _injection(Action.KILL, nth=2))
    assert (told.fired, told.struck_s) == (1, 1000.0005)
    assert read_log(DEATH.splitlines(), _injection(Action.KILL, nth=1)).fired == 0, "somebody else killed it"


def test_logs_add_up() -> None:
    """Several processes under one fault are told as one."""
    one = read_log(ERRORS.splitlines(), _injection(Action.ERRNO))
    assert (one + one).matched == 8
    assert (one + read_log([], _injection(Action.ERRNO))).struck_s == one.struck_s
