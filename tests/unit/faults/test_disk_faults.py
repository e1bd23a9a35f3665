"""The file faults as values: their mistakes, their rules, and injecting and healing through a real control file."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos.errors import EnvironmentUnavailable
from chaos.faults import (
    BitRot,
    DiskDelay,
    DiskError,
    DiskFull,
    FsyncFails,
    FsyncLies,
    KillAtCall,
    LostWrite,
    MisdirectedWrite,
    ShortRead,
    ShortWrite,
    TornWrite,
)
from chaos.faults.base import Injection
from chaos.faults.disk.control import Control, StoreDisk
from chaos.faults.disk.fault import DiskFault

GOOD: list[DiskFault] = [
    DiskError("sqlite"),
    DiskError("sqlite", error="EMFILE", call="open"),
    DiskError("redis", call=("write", "fdatasync"), path="appendonlydir/*", nth=3, count=0),
    DiskError("sqlite", error="EDQUOT", call="sync"),
    DiskFull("sqlite"),
    DiskFull("redis", budget_bytes=4096, path="*.aof"),
    DiskDelay("sqlite", "20ms"),
    DiskDelay("graph", 0.5, call=("read", "write")),
    ShortWrite("sqlite", 10),
    KillAtCall("graph", "rename"),
    KillAtCall("sqlite", "sync", path="*-wal", nth=2, after=True),
    KillAtCall("sqlite", "sync", after=True, group=True, probability=0.5),
    DiskError("sqlite", count=0, probability=0.01, offsets=(0, 4096)),
    DiskError("sqlite", call="read", offsets=(4096, None)),
    DiskFull("sqlite", budget_bytes=10, freed_bytes=100, freed_after=3),
    DiskDelay("sqlite", "1ms", spread="tail", spread_by="5ms"),
    DiskDelay("sqlite", 0, call="write", bytes_per_s=10_000_000, nth=2, count=5),
    FsyncFails("sqlite"),
    FsyncFails("sqlite", pages="kept", path="*-wal", nth=2, count=0),
    FsyncLies("redis", path="appendonlydir/*"),
    ShortRead("sqlite", 10, count=0),
    TornWrite("graph", unit_bytes=4096, path="*.wal", nth=3),
    LostWrite("sqlite", path="main.db", nth=2),
    MisdirectedWrite("sqlite", shift_bytes=512),
    BitRot("graph", every_bytes=1 << 20, path="*.wal", probability=0.5),
]

BAD: list[tuple[Any, list[str]]] = [
    (DiskError("sqlite", error="EPONY"), ["unknown-error"]),
    (DiskError("sqlite", call="stat"), ["unknown-call"]),
    (DiskError("sqlite", call=()), ["unknown-call"]),
    (DiskError("sqlite", call=("write", 3)), ["unknown-call"]),  # type: ignore[arg-type]  # a user's mistake
    (DiskError("sqlite", error="EMFILE", call="write"), ["error-not-from-call"]),
    (DiskError("sqlite", error="EMFILE", call=("open", "sync")), ["error-not-from-call"]),
    (DiskError("sqlite", nth=0, count=-1), ["out-of-range", "out-of-range"]),
    (DiskError("", path=""), ["not-a-store", "bad-glob"]),
    (DiskError("sqlite", path="/etc/*"), ["bad-glob"]),
    (DiskError("sqlite", path="../redis/*"), ["bad-glob"]),
    (DiskFull("sqlite", budget_bytes=-1), ["out-of-range"]),
    (DiskFull("sqlite", budget_bytes=1.5), ["out-of-range"]),  # type: ignore[arg-type]  # a user's mistake
    (DiskDelay("sqlite", "soon"), ["not-a-time"]),
    (DiskDelay("sqlite", "2h"), ["out-of-range"]),
    (DiskDelay("sqlite", 0), ["out-of-range"]),
    (ShortWrite("sqlite", 0), ["out-of-range"]),
    (KillAtCall("sqlite", "commit"), ["unknown-call"]),
    (KillAtCall("sqlite", "sync", group=0), ["not-a-choice"]),  # type: ignore[arg-type]  # a user's mistake
    (DiskError("sqlite", probability=0), ["out-of-range"]),
    (DiskError("sqlite", probability=1.5, offsets=(5, 5)), ["out-of-range", "out-of-range"]),
    (DiskError("sqlite", offsets=(-1, None)), ["out-of-range"]),
    (DiskError("sqlite", offsets=7), ["out-of-range"]),  # type: ignore[arg-type]  # a user's mistake
    (DiskFull("sqlite", freed_bytes=5), ["out-of-range"]),
    (DiskDelay("sqlite", "1ms", spread="wide", spread_by="1ms"), ["not-a-choice"]),
    (DiskDelay("sqlite", "1ms", spread="tail"), ["out-of-range"]),
    (DiskDelay("sqlite", 0, bytes_per_s=0), ["out-of-range"]),
    (FsyncFails("sqlite", pages="lost"), ["not-a-choice"]),
    (FsyncLies("sqlite", nth=0), ["out-of-range"]),
    (ShortRead("sqlite", 0), ["out-of-range"]),
    (TornWrite("sqlite", unit_bytes=0, nth=0), ["out-of-range", "out-of-range"]),
    (LostWrite("sqlite", path="/a"), ["bad-glob"]),
    (MisdirectedWrite("sqlite", shift_bytes=700), ["out-of-range"]),
    (BitRot("sqlite", every_bytes=0), ["out-of-range"]),
    (KillAtCall("sqlite", "sync", after=1), ["not-a-choice"]),  # type: ignore[arg-type]  # a user's mistake
]


class OneControl:
    """The levers of an environment whose stores all run under one control file."""

    def __init__(self, control: Control | None) -> None:
        """Hold the control; None where no shim is loaded."""
        self.control = control

    def disk(self, store: str) -> StoreDisk:
        """Return the store's lever."""
        if self.control is None:
            raise EnvironmentUnavailable("no file shim", "install it")
        return StoreDisk(self.control, store)


@pytest.mark.parametrize("fault", GOOD, ids=repr)
def test_good_faults_have_no_problems(fault: DiskFault) -> None:
    """What is allowed is not complained about, and its arguments can be written to the plan."""
    assert list(fault.problems()) == []
    arguments = json.loads(json.dumps(fault.arguments()))
    assert arguments["store"] == fault.store
    assert arguments["path"] == fault.path  # type: ignore[attr-defined]  # every kind has one


@pytest.mark.parametrize(("fault", "slugs"), BAD, ids=lambda value: repr(value)[:60])
def test_bad_faults_say_so(fault: DiskFault, slugs: list[str]) -> None:
    """Each mistake is one problem at the line of the fault, with its slug and a remedy."""
    problems = list(fault.problems())
    assert [problem.slug for problem in problems] == slugs
    for problem in problems:
        assert problem.file == __file__
        assert problem.remedy


@pytest.mark.parametrize("fault", GOOD, ids=repr)
async def test_inject_and_heal(fault: DiskFault, tmp_path: Path) -> None:
    """Injecting arms one rule, healing disarms it; a fault that met no call did not land, and a heal can be repeated."""
    (tmp_path / "data").mkdir()
    with Control.create(tmp_path / "control", tmp_path / "data") as control:
        levers: Any = OneControl(control)
        injection = await fault.inject(levers, "f3", Random(0))
        assert control.armed_ids() == ("f3",)
        evidence = await fault.heal(levers, injection)
        assert control.armed_ids() == ()
        assert set(fault.bites) <= set(evidence)
        assert not fault.landed(evidence)
        assert await fault.heal(levers, injection) == evidence


async def test_heal_of_something_never_begun(tmp_path: Path) -> None:
    """Healing after an inject that was cut short is harmless."""
    (tmp_path / "data").mkdir()
    with Control.create(tmp_path / "control", tmp_path / "data") as control:
        levers: Any = OneControl(control)
        assert await DiskError("sqlite").heal(levers, Injection("f0")) == {}


async def test_without_a_shim() -> None:
    """Where no shim is loaded a file fault is unavailable, not silently absent."""
    levers: Any = OneControl(None)
    with pytest.raises(EnvironmentUnavailable):
        await DiskFull("sqlite").inject(levers, "f0", Random(0))


@pytest.mark.parametrize(
    ("fault", "evidence", "landed"),
    [
        (DiskError("sqlite"), {"calls_matched": 9, "calls_failed": 0}, False),
        (DiskError("sqlite"), {"calls_matched": 9, "calls_failed": 1}, True),
        (DiskFull("sqlite"), {"calls_failed": 0, "calls_shortened": 1}, True),
        (KillAtCall("sqlite", "sync"), {"calls_matched": 1, "processes_killed": 0}, False),
    ],
)
def test_landed(fault: DiskFault, evidence: dict[str, int | float | str], landed: bool) -> None:
    """A fault landed when it acted on a call, not when it merely saw one."""
    assert fault.landed(evidence) is landed
