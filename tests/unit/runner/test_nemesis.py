from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest

from chaos.experiment.plan import AfterDelay, AtNext, AtPhase, AtTime, Never, PlannedRule
from chaos.faults.base import STRUCK, Evidence, Fault, Injection, Levers
from chaos.history.writer import HistoryWriter
from chaos.runner.ledger import Ledger
from chaos.runner.nemesis import Nemesis

PHASE = AtPhase("acknowledged", 1)
NEVER_REACHED = AtPhase("acknowledged", 100)


@dataclass(frozen=True)
class Nothing(Fault):
    """Does nothing, and says when it did."""

    kind: ClassVar[str] = "test.nothing"
    bites: ClassVar[tuple[str, ...]] = ("bites",)

    def arguments(self) -> dict[str, Any]:
        """Return no parameters."""
        return {}

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Begin."""
        return Injection(fault_id)

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """End."""
        return {"bites": 1, STRUCK: 5_000_000_000}


class Looker:
    """A watch that knows nothing until it looks, and notes what it was asked."""

    def __init__(self) -> None:
        self.well: bool | None = None
        self.asked: list[str] = []

    async def look(self) -> bool | None:
        """Find the system ill."""
        self.asked.append("look")
        self.well = False
        return self.well

    def look_soon(self, fault_id: str) -> None:
        """Note it."""
        self.asked.append(fault_id)


class Bench:
    """A nemesis whose history can be read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "history.jsonl"
        self.history = HistoryWriter(self.path, lambda: 2_000_000_000)
        self.ledger = Ledger(folder / "faults.jsonl")
        self.looker = Looker()

    def nemesis(self, *rules: tuple[AtTime | AtPhase | AtNext, AfterDelay | AtPhase | AtNext | Never]) -> Nemesis:
        """Return a nemesis with a rule for each beginning and end."""
        planned = [PlannedRule(f"f{index}", begin, Nothing(), end) for index, (begin, end) in enumerate(rules)]
        nemesis = Nemesis(planned, 1, None, self.history, self.ledger)  # type: ignore[arg-type]  # no lever is pulled
        nemesis.watch = self.looker
        return nemesis

    def values(self, kind: str) -> list[dict[str, Any]]:
        """Return the values of the entries of a kind."""
        entries = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [entry["value"] for entry in entries if entry["kind"] == kind]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty history."""
    bench = Bench(tmp_path)
    yield bench
    bench.history.close()
    bench.ledger.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_fault_at_a_time_waits_for_a_look_at_the_system(bench: Bench) -> None:
    """The answer is in its beginning; two at one moment share it, and each heal is followed by a look of its own."""
    nemesis = bench.nemesis((AtTime(0.0), Never()), (AtTime(0.0), Never()))
    nemesis.start()
    await until(lambda: len(nemesis.open_faults) == 2)
    assert bench.looker.asked == ["look"]
    assert [value["well_before"] for value in bench.values("fault_begin")] == [False, False]
    await until(lambda: (bench.path.parent / "faults.jsonl").read_text().count("applied") == 2)
    await nemesis.heal_all()
    assert bench.looker.asked == ["look", "f1", "f0"]


async def test_a_transaction_at_a_phase_is_not_kept_waiting_for_a_look(bench: Bench) -> None:
    """What the latest probe found is noted instead."""
    nemesis = bench.nemesis((PHASE, Never()))
    bench.looker.well = True
    nemesis.start()
    await nemesis.phase("acknowledged")
    assert bench.looker.asked == []
    assert [value["well_before"] for value in bench.values("fault_begin")] == [True]


@pytest.mark.parametrize(("end", "came"), [(NEVER_REACHED, False), (AfterDelay(60.0), False), (Never(), True)])
async def test_an_end_that_did_not_come_is_noted(bench: Bench, end: AfterDelay | AtPhase | Never, came: bool) -> None:
    """A fault that is healed because the load ended says so, unless nothing else was planned."""
    nemesis = bench.nemesis((PHASE, end))
    nemesis.start()
    await nemesis.phase("acknowledged")
    await nemesis.heal_all()
    assert [value["end_came"] for value in bench.values("fault_end")] == [came]


async def test_an_end_that_came_is_noted_too(bench: Bench) -> None:
    """The phase was reached while the load went on."""
    nemesis = bench.nemesis((PHASE, AtPhase("acknowledged", 2)))
    nemesis.start()
    await nemesis.phase("acknowledged")
    await nemesis.phase("acknowledged")
    await nemesis.heal_all()
    assert [value["end_came"] for value in bench.values("fault_end")] == [True]


async def test_phases_are_counted_from_the_start_of_the_load(bench: Bench) -> None:
    """One that was reached before is not the first."""
    nemesis = bench.nemesis((PHASE, Never()))
    await nemesis.phase("acknowledged")
    assert nemesis.open_faults == ()
    nemesis.start()
    await nemesis.phase("acknowledged")
    assert nemesis.open_faults == ("test.nothing",)


async def test_the_last_blow_is_told_on_the_clock_of_the_run(bench: Bench) -> None:
    """Evidence of the monotonic clock becomes seconds since the run began."""
    nemesis = bench.nemesis((PHASE, Never()))
    nemesis.start()
    await nemesis.phase("acknowledged")
    await nemesis.heal_all()
    assert bench.values("fault_end")[0]["evidence"] == {"bites": 1, "struck_at_s": 3.0}


async def test_rules_in_turn_wait_for_those_before_and_for_good_transactions(bench: Bench) -> None:
    """Neither the phase alone nor the transactions of the fault before are enough; `after=0` only waits for beginnings."""
    turn = AtNext("applied", 2)
    nemesis = bench.nemesis(
        (AtNext("applied", 1), AtNext("applied", 1)), (turn, Never()), (turn, Never()), (AtNext("applied", 0), Never())
    )
    nemesis.acknowledged()
    nemesis.start()
    await nemesis.phase("applied")
    assert nemesis.open_faults == ()  # what was acknowledged before the load does not count
    nemesis.acknowledged()
    await nemesis.phase("queued")
    assert nemesis.open_faults == ()
    await nemesis.phase("applied")
    assert len(nemesis.open_faults) == 1
    await nemesis.phase("applied")
    assert len(bench.values("fault_end")) == 0
    nemesis.acknowledged()
    await nemesis.phase("applied")
    assert len(bench.values("fault_end")) == 1
    nemesis.acknowledged()
    await nemesis.phase("applied")
    assert nemesis.open_faults == ()
    nemesis.acknowledged()
    await nemesis.phase("applied")
    assert len(nemesis.open_faults) == 2  # both faults of one rule
    await nemesis.phase("applied")
    assert len(nemesis.open_faults) == 3
    await nemesis.heal_all()


async def test_only_phases_that_a_rule_waits_for_are_armed(bench: Bench) -> None:
    """One that waits for its turn is not, nor one whose rules are over; whoever asks hears of each change."""
    nemesis = bench.nemesis(
        (AtPhase("begin", 1), Never()),
        (AtNext("applied", 0), AtNext("queued", 1)),
        (AtNext("buffered", 1), Never()),
    )
    heard: list[set[str]] = []
    nemesis.on_armed = lambda phases: heard.append(set(phases))
    nemesis.start()
    assert nemesis.armed == {"begin"}
    await nemesis.phase("begin")
    await nemesis.phase("applied")
    nemesis.acknowledged()
    await nemesis.phase("queued")
    assert heard == [{"applied"}, set(), {"queued"}, set()]
    await nemesis.heal_all()
