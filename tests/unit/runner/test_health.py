from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chaos.history.writer import HistoryWriter
from chaos.runner import health as module
from chaos.runner.health import Health

STORES = ("sqlite", "redis")


class Answers:
    """What `Health` needs of a supervisor: a worker that answers every question in the same way."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.ready = asyncio.Event()
        self.ready.set()

    async def call(self, op: str, args: dict[str, Any] | None, timeout_s: float) -> Any:
        """Answer; None never does."""
        if self.answer is None:
            await asyncio.get_running_loop().create_future()
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


async def test_a_look_waits_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the answer of a system that answers at once, and else what was known before."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    history = HistoryWriter(tmp_path / "history.jsonl")
    answers = Answers({"sqlite": True, "redis": False})
    health = Health(answers, history, STORES)  # type: ignore[arg-type]  # all it uses
    assert await health.look() is False
    answers.answer = None
    assert await health.look() is False
    answers.answer = {"sqlite": True, "redis": True}
    assert await health.look() is True
    history.close()


async def test_a_look_after_a_heal_names_the_fault_and_ends_with_the_probes(tmp_path: Path) -> None:
    """It is recorded with the fault; after `stop` nobody looks any more."""
    history = HistoryWriter(tmp_path / "history.jsonl")
    health = Health(Answers({"sqlite": True, "redis": True}), history, STORES)  # type: ignore[arg-type]  # all it uses
    health.look_soon("f3")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await health.stop()
    health.look_soon("f4")
    history.close()
    (entry,) = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert (entry["fault"], entry["value"]["occasion"], entry["value"]["ok"]) == ("f3", "healed", True)
