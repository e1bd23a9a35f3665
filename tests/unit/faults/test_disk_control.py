"""The control file from the harness's side: arming, disarming, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import HarnessError
from chaos.faults.disk import layout
from chaos.faults.disk.control import Control, StoreDisk

pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "posix_fallocate"), reason="control files need Linux")

RULE: dict[str, Any] = {"action": "errno", "error": "EIO", "calls": ["write"], "path": "sqlite/*"}


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """A control file with nothing armed."""
    (tmp_path / "data").mkdir()
    with Control.create(tmp_path / "control", tmp_path / "data") as control:
        yield control


def test_arm_and_disarm(control: Control) -> None:
    """A rule that met no call comes back with counters of 0; a second disarm returns nothing."""
    control.arm("f0", RULE)
    assert control.armed_ids() == ("f0",)
    assert control.evidence("f0") == control.disarm("f0") == {"calls_matched": 0, "calls_failed": 0}
    assert control.disarm("f0") == {}
    assert (control.armed_ids(), control.fired("f0")) == ((), 0)


def test_unknown_rule(control: Control) -> None:
    """Asking after a rule that was never armed is not an error."""
    assert (control.disarm("f9"), control.evidence("f9"), control.fired("f9")) == ({}, {}, 0)


def test_two_holders_share_the_file(control: Control) -> None:
    """What one process arms another one sees and may disarm."""
    with Control.attach(control.path) as other:
        control.arm("f0", RULE)
        with pytest.raises(HarnessError, match="armed already"):
            other.arm("f0", RULE)
        assert other.disarm("f0") == {"calls_matched": 0, "calls_failed": 0}
    assert control.armed_ids() == ()


def test_slots_run_out_and_come_back(control: Control) -> None:
    """As many rules as there are slots can be armed at once, and a freed slot is used again."""
    for number in range(layout.RULE_COUNT):
        control.arm(f"f{number}", RULE)
    with pytest.raises(HarnessError, match="slots are in use"):
        control.arm("one more", RULE)
    control.disarm("f7")
    control.arm("one more", RULE)
    assert len(control.armed_ids()) == layout.RULE_COUNT


def test_generations_wrap(control: Control) -> None:
    """A slot can be armed more often than generations exist; 0, which means disarmed, is left out."""
    rule = control._file.rules[0]
    rule.limit = layout.GENERATION_MAX << layout.GENERATION_SHIFT
    control.arm("f0", RULE)
    assert rule.generation == 1


@pytest.mark.parametrize(
    "change",
    [
        {"action": "explode"},
        {"action": None},
        {"action": "none"},
        {"calls": []},
        {"calls": ["stat"]},
        {"error": "EMFILE"},
        {"nth": 0},
        {"nth": 1.5},
        {"nth": True},
        {"count": -1},
        {"count": layout.COUNT_MAX + 1},
        {"path": ""},
        {"path": "x" * layout.GLOB_BYTES},
        {"action": "short", "keep_bytes": 0},
        {"action": "short"},
        {"action": "delay", "delay_s": -1.0},
        {"action": "full", "budget_bytes": -1},
        {"probability": 0},
        {"probability": 1.01},
        {"seed": -1},
        {"offsets": [-1, 5]},
        {"action": "tear", "unit_bytes": 0},
        {"action": "rot", "calls": ["read"]},
        {"action": "misdirect", "shift_bytes": 0},
    ],
    ids=str,
)
def test_bad_rules_are_refused(control: Control, change: dict[str, Any]) -> None:
    """A value out of range is refused by name, and nothing is armed."""
    with pytest.raises(ValueError, match=r"=|cannot fail with"):
        control.arm("f0", {**RULE, **change})
    assert control.armed_ids() == ()


@pytest.mark.parametrize("rule_id", ["", "x" * layout.ID_BYTES, "a\0b"])
def test_bad_ids_are_refused(control: Control, rule_id: str) -> None:
    """An id that a slot cannot hold is refused."""
    with pytest.raises(ValueError, match="id="):
        control.arm(rule_id, RULE)


def test_budget_is_for_full_rules(control: Control) -> None:
    """Only an armed disk-full rule has a budget to change."""
    control.arm("f0", RULE)
    with pytest.raises(HarnessError, match="not an armed disk-full rule"):
        control.set_budget("f0", 1)


async def test_store_disk_prefixes_the_path(control: Control) -> None:
    """A store's lever reaches the files of that store only."""
    disk = StoreDisk(control, "sqlite")
    await disk.arm("f0", {**RULE, "path": "*-wal"})
    assert control._file.rules[0].glob == b"sqlite/*-wal"
    assert await disk.disarm("f0") == {"calls_matched": 0, "calls_failed": 0}


def test_create_refuses(control: Control, tmp_path: Path) -> None:
    """A root that is no folder, a file that exists, and a file within the root are refused before anything is made."""
    for path, root, text in (
        (tmp_path / "new", tmp_path / "absent", "must be an existing folder"),
        (tmp_path / "new", Path("/"), "other than /"),
        (tmp_path / "data" / "new", tmp_path / "data", "must lie outside"),
        (tmp_path / "control", tmp_path / "data", "File exists"),
        (tmp_path / "absent" / "new", tmp_path / "data", "cannot be created"),
    ):
        with pytest.raises(HarnessError, match=text):
            Control.create(path, root)
    assert not (tmp_path / "new").exists()


def test_attach_refuses(control: Control, tmp_path: Path) -> None:
    """Only a whole control file of this version is attached to."""
    with pytest.raises(HarnessError, match="cannot be opened"):
        Control.attach(tmp_path / "absent")
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(HarnessError, match="too short"):
        Control.attach(tmp_path / "short")
    (tmp_path / "zeros").write_bytes(bytes(control.path.stat().st_size))
    with pytest.raises(HarnessError, match="not a control file"):
        Control.attach(tmp_path / "zeros")


def test_nothing_happened_yet(control: Control) -> None:
    """A fresh control file has no clock, no records and nobody attached; it is private to its owner."""
    assert (control.clock, control.records(), control.attached, control.source_hash) == (0, (), 0, None)
    assert not control.has_attached(0)
    assert control.path.stat().st_mode & 0o777 == 0o600


def test_close_is_idempotent(control: Control) -> None:
    """Closing twice is harmless, and leaves the rules armed for the victims."""
    control.arm("f0", RULE)
    control.close()
    control.close()
    with Control.attach(control.path) as again:
        assert again.armed_ids() == ("f0",)
