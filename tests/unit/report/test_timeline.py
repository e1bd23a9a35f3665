"""The wire journal read again, and the timeline of a transaction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import PlanError
from chaos.report.wire import Wire, read_wire

COMMIT = [
    {"kind": "request", "connection": 2, "frame": 7, "command": "GET", "key": "k", "size": 20},
    {"kind": "request", "connection": 2, "frame": 8, "command": "MULTI", "size": 15},
    {"kind": "request", "connection": 2, "frame": 9, "command": "INCRBY", "key": "n", "size": 30},
    {"kind": "request", "connection": 2, "frame": 10, "command": "RPUSH", "key": "l", "size": 30, "token": "c0.1"},
    {"kind": "request", "connection": 2, "frame": 11, "command": "EXEC", "size": 14},
    {"kind": "request", "connection": 3, "frame": 0, "command": "EVALSHA", "size": 99, "token": "c0.2"},
    {"kind": "reply", "connection": 2, "frame": 11, "type": "*", "size": 9},
    {
        "kind": "rule",
        "connection": 2,
        "frame": 11,
        "command": "EXEC",
        "fault": "f0",
        "at": "before_reply",
        "action": "cut",
        "nth": 1,
    },
    {"kind": "cut", "connection": 2, "how": "rst", "fault": "f0"},
    {"kind": "close", "connection": 2, "how": "rst"},
    {"kind": "close", "connection": 3},
]


def written(path: Path, lines: list[dict[str, Any]], tail: str = "") -> Path:
    """Write a journal."""
    head = {"time_ns": 0, "kind": "journal", "schema": 1, "frames": True}
    numbered = [{"time_ns": number, **line} for number, line in enumerate(lines, start=1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [head, *numbered]) + tail)
    return path


def test_frames_around_a_token_belong_to_its_transaction(tmp_path: Path) -> None:
    """MULTI and EXEC name nobody, and belong to the transaction between them; what lies outside does not."""
    wire = read_wire(written(tmp_path / "wire.jsonl", COMMIT))
    assert wire is not None
    assert wire.frames
    assert {frame: token for frame, token in wire.tokens.items() if frame[0] == 2} == {
        (2, number): "c0.1" for number in (8, 9, 10, 11)
    }
    assert [line["kind"] for line in wire.about("c0.1")] == ["request"] * 4 + ["reply", "rule", "cut", "close"]
    assert [line["connection"] for line in wire.about("c0.2")] == [3]
    assert wire.ordinal(wire.hits[0], "c0.1") == 1


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A kill in the middle of a line loses that line only."""
    wire = read_wire(written(tmp_path / "wire.jsonl", COMMIT, '{"time_ns": 99, "ki'))
    assert wire is not None
    assert len(wire.lines) == len(COMMIT) + 1


def test_a_run_without_a_journal_has_none(tmp_path: Path) -> None:
    """That is no mistake: a Toxiproxy keeps none."""
    assert read_wire(tmp_path / "wire.jsonl") is None


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"kind": 3, "time_ns": 1}', '{"kind": "open"}'])
def test_another_file_is_told(tmp_path: Path, line: str) -> None:
    """A line that is none of a journal's has its place and slug."""
    path = written(tmp_path / "wire.jsonl", COMMIT, f"{line}\n")
    with pytest.raises(PlanError) as caught:
        read_wire(path)
    (problem,) = caught.value.problems
    assert (problem.slug, problem.line) == ("malformed-wire", len(COMMIT) + 2)


def test_open_transactions_belong_to_nobody_else() -> None:
    """A MULTI that is cut off before EXEC is still its transaction's; two tokens in one are nobody's."""
    cut_off = Wire.of(COMMIT[1:4])
    assert set(cut_off.tokens.values()) == {"c0.1"}
    both = Wire.of([*COMMIT[1:4], {**COMMIT[3], "frame": 12, "token": "c0.9"}, COMMIT[4]])
    assert not both.tokens
