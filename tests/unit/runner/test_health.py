from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.history.writer import HistoryWriter
from chaos.runner.health import Health

STORES = ("sqlite", "redis")


class Answers:
    """What `Health` needs of a supervisor: a worker that answers every question in the same way."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def call(self, op: str, args: dict[str, Any] | None, timeout_s: float) -> Any:
        """Answer."""
        return self.answer


def image(**changes: Any) -> dict[str, Any]:
    """Return the image of a store with one mark and one counter."""
    return {"marks": {"t0": ["m"]}, "counters": {"a": 1}, **changes}


@pytest.mark.parametrize(
    ("redis", "agreed"),
    [
        (image(), True),
        (image(counters={}), True),
        (image(counters={"a": 2}), False),
        (image(counters={"a": None}), False),
        (image(counters={"b": 1}), False),
        (image(refused={"t0": ["command 1: WRONGTYPE"]}), False),
        (image(marks={}), False),
    ],
)
async def test_agreement_is_of_marks_counters_and_nothing_refused(
    tmp_path: Path, redis: dict[str, Any], agreed: bool
) -> None:
    """A counter that is lost or lacking is a difference, and so is a refusal; a store without counters has none."""
    history = HistoryWriter(tmp_path / "history.jsonl")
    health = Health(Answers({"sqlite": image(), "redis": redis}), history, STORES)  # type: ignore[arg-type]  # all it uses
    assert await health.agreement("converging") is agreed
    history.close()
