from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chaos.checkers import by_name, known
from chaos.checkers.model import Context
from chaos.history.reader import read

ROOT = Path(__file__).resolve().parents[2] / "histories"
FILES = sorted(ROOT.rglob("*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT).with_suffix("")))
def test_the_check_gives_the_verdict_of_the_folder(path: Path) -> None:
    """A small history gets the verdict it is filed under, for the reason it was written for."""
    history = read(path)
    note = history.entries[0].value
    verdict = by_name(path.parts[-3]).judge(history, msgspec.convert(note["context"], Context))
    assert verdict.valid == path.parts[-2], f"{note['why']} Got: {verdict}"
    assert note["says"] in verdict.summary
    assert bool(verdict.witnesses) == (verdict.valid == "invalid")
    assert all(0 <= index < len(history.entries) for witness in verdict.witnesses for index in witness.entries)


def test_every_check_has_histories_of_every_verdict() -> None:
    """No check goes without a case for each verdict that it can give."""
    present = {path.parts[-3:-1] for path in FILES}
    wanted = {(check.name, valid) for check in known() for valid in ("valid", "invalid", "unknown")}
    assert present == wanted - {("landed", "invalid")}
