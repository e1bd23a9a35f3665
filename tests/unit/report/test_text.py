from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.checkers import Conclusion, Context, conclude, judge, of_plan, standard
from chaos.history.reader import read
from chaos.history.sketch import Sketch
from chaos.report.layout import WIDTH
from chaos.report.text import render

GOLD = Path(__file__).resolve().parents[2] / "gold" / "text"
CUT = "network.partition"


def plan(*kinds: str, **more: Any) -> dict[str, Any]:
    """Return a plan with a fault of each kind, called f0, f1 and so on."""
    return {
        "stores": {"sqlite": {}, "redis": {}, "graph": {}},
        "recovery": {"budget_s": 10.0, "hold_s": 1.0},
        "guards": {"before": 1, "during": 1, "after": 1},
        "rules": [{"id": f"f{index}", "fault": {"kind": kind}} for index, kind in enumerate(kinds)],
        "checks": [check.name for check in standard()],
        **more,
    }


def rendered(sketch: Sketch, plan: dict[str, Any], **run: Any) -> str:
    """Judge a sketch by all checks and return its report."""
    history = sketch.history()
    verdicts = judge(history, standard(), Context.from_plan(plan))
    return render({"experiment": "e", "seed": 1, **run}, plan, verdicts, conclude(verdicts), history)


@pytest.mark.parametrize("name", ["partition", "naive"])
def test_report_is_as_agreed(name: str) -> None:
    """The report of a stored run is the gold file, letter by letter."""
    folder = GOLD / name
    plan = json.loads((folder / "plan.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    history = read(folder / "history.jsonl")
    context = Context.from_plan(plan)
    verdicts = judge(history, of_plan(plan), context)
    text = render(run, plan, verdicts, conclude(verdicts, context.expect), history)
    gold = folder / "report.txt"
    if os.environ.get("CHAOS_GOLD") == "write" and (not gold.exists() or gold.read_text() != text):
        gold.write_text(text)
        pytest.fail(f"{gold} was written anew: read the difference, then run again without CHAOS_GOLD")
    assert text == gold.read_text()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.isascii()


def test_the_seed_comes_first_and_the_command_last() -> None:
    """Whatever happened, a report begins with the seed and ends with the way to see it again."""
    lines = rendered(Sketch().commit(0, "t0"), plan(), repeat="chaos run e.py --seed 1").splitlines()
    assert lines[0] == "e, seed 1"
    assert lines[-1] == "  chaos run e.py --seed 1"


def test_a_run_in_which_nothing_happened_has_a_report() -> None:
    """An empty history is told as such instead of being passed over."""
    text = rendered(Sketch(), plan(CUT))
    assert "f0  network.partition: never injected, its moment did not come" in text
    assert "none was sent" in text
    assert "inconclusive" in text


def test_a_fault_that_did_nothing_stands_out() -> None:
    """What was applied in vain is not told in the same words as what bit."""
    text = rendered(Sketch().begin("f0", CUT, at=1.0).end("f0", CUT, at=2.0, landed=False), plan(CUT))
    assert "f0  1.000 s: network.partition on redis" in text
    assert "until 2.000 s; it did NOTHING: bytes_held=0" in text


def test_a_fault_without_an_end_is_told() -> None:
    """A history cut short shows which fault was still open."""
    assert "no end in the history; not known whether it landed" in rendered(Sketch().begin("f0", CUT), plan(CUT))


def test_a_torn_history_is_told() -> None:
    """The reader's note about a cut last line reaches the report."""
    history = read(GOLD / "partition" / "history.jsonl")
    torn = type(history)(source="x", torn="line 9 was cut off after 3 bytes and is left out")
    text = render({}, plan(), (), Conclusion("inconclusive", 3, "inconclusive."), torn)
    assert "the end of the history is missing: line 9 was cut off after 3 bytes" in text


def test_the_reason_of_an_early_end_is_told() -> None:
    """A run that was stopped says so beside its verdict."""
    assert "the run ended early: limits.wall" in rendered(Sketch(), plan(), stopped="limits.wall")


def test_torn_rows_and_witnesses_are_bounded() -> None:
    """A run with many torn transactions still fits on a few screens, and says how many there were."""
    sketch = Sketch()
    for number in range(40):
        sketch.commit(0, f"t{number}")
    marks = {f"t{number}": f"m-t{number}" for number in range(40)}
    text = rendered(sketch.read_both(sqlite=marks, redis={}, graph=marks), plan())
    assert "and 30 more, in checks/atomic.json" in text
    assert "and 35 others, in checks/atomic.json" in text
    assert text.count("\n  - transaction t") == 10  # five for atomic, five for durable


def test_hostile_text_cannot_break_the_page() -> None:
    """Control characters and endless words in tokens and marks neither colour the page nor widen it."""
    token = "t" * 300 + "\x1b[31m"
    sketch = Sketch().invoke(0, token, "m\n\x07" * 60).ok(0, token)
    text = rendered(sketch.read_both(sqlite={token: "m\n\x07" * 60}, redis={}, graph={}), plan())
    assert max(map(len, text.splitlines())) <= WIDTH
    assert not any(letter < " " and letter != "\n" for letter in text)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"trigger": {"at_s": 2.5}, "until": {"after_s": 0.25}}, "planned 2.5 s into the load, for 0.25 s"),
        (
            {"trigger": {"at_s": 5.25, "drawn_from_s": [5.0, 7.0]}, "until": {"load_end": True}},
            "planned 5.25 s into the load, drawn from 5 to 7 s, until the load ends",
        ),
        (
            {"trigger": {"phase": "begin", "nth": 22}, "until": {"phase": "applied", "nth": 113}},
            "planned when begin is reached for the 22nd time, until applied is reached for the 113th time",
        ),
    ],
)
def test_what_was_planned_stands_beside_what_happened(rule: dict[str, Any], words: str) -> None:
    """The schedule's own words are there for each fault, injected or not."""
    rules = [{"id": "f0", "fault": {"kind": CUT}, **rule}]
    assert words in rendered(Sketch(), plan(rules=rules))
    assert words in rendered(Sketch().begin("f0", CUT).end("f0", CUT), plan(rules=rules))


def test_ends_that_no_fault_explains_are_listed() -> None:
    """A crash out of the blue, a hang and a server that ended show with time, process, and signal or status."""
    sketch = Sketch().event("worker_exited", at=1.0, status=-11).event("worker_exited", at=2.0, status=3)
    sketch.event("worker_hung", at=3.0, silent_s=8.0).event("worker_exited", at=3.1, status=-9)
    sketch.event("server_exited", at=4.0, status=-200)
    text = rendered(sketch, plan())
    section = text[text.index("ENDS THAT NO FAULT EXPLAINS") :].split("\n\n")[0].splitlines()
    assert [line.split(maxsplit=3)[0::2] for line in section[2:]] == [
        ["1.000", "worker"],
        ["2.000", "worker"],
        ["3.000", "worker"],
        ["4.000", "redis"],
    ]
    assert [line.split(maxsplit=3)[3] for line in section[2:]] == [
        "SIGSEGV",
        "exit status 3",
        "hung: silent for 8.0 s, then killed by the harness",
        "signal 200",
    ]


@pytest.mark.parametrize(
    ("kind", "target", "lasting", "exited", "listed"),
    [
        ("process.kill", "worker", False, 2.5, False),
        ("process.kill", "worker", False, 3.5, True),
        ("process.kill", "worker", False, 0.9, True),
        ("process.kill", "redis", False, 1.1, True),
        ("process.pause", "worker", True, 8.0, False),
        ("process.pause", "worker", True, 9.5, True),
        ("disk.no_space", "sqlite", True, 8.0, False),
        (CUT, "redis", True, 1.1, True),
    ],
)
def test_a_fault_explains_only_what_it_aimed_at(
    kind: str, target: str, lasting: bool, exited: float, listed: bool
) -> None:
    """An end counts as explained while such a fault is open and for two seconds after its beginning."""
    value = {"arguments": {"target": target}, "lasting": lasting}
    moments: list[tuple[float, Callable[[Sketch], Sketch]]] = [
        (1.0, lambda sketch: sketch.add("fault_begin", kind, at=1.0, fault="f0", value=value)),
        (exited, lambda sketch: sketch.event("worker_exited", at=exited, status=-9)),
        (9.0, lambda sketch: sketch.end("f0", kind, at=9.0)),
    ]
    sketch = Sketch()
    for _, add in sorted(moments, key=lambda moment: moment[0]):
        add(sketch)
    assert ("ENDS THAT NO FAULT EXPLAINS" in rendered(sketch, plan(kind))) == listed


def test_what_was_left_behind_is_told() -> None:
    """Processes that the system under test left and that were killed stand beside the verdict."""
    text = rendered(Sketch(), plan(), stray_processes=["pid 71 (sleep)"], not_judged={"synced": "no shim"})
    verdict = text[text.index("VERDICT") :]
    assert "left behind by the system under test, and killed: pid 71 (sleep)" in verdict
    assert "not judged: synced (no shim)" in verdict


def test_a_fault_whose_end_never_came_says_so() -> None:
    """It was healed because the load had ended, and the system was ill when it began."""
    sketch = Sketch().begin("f0", CUT, well_before=False)
    sketch.add("fault_end", CUT, fault="f0", value={"evidence": {}, "landed": True, "end_came": False})
    text = " ".join(rendered(sketch, plan(CUT)).split())
    assert "when the load had ended: the planned end did not come; it landed" in text
    assert "the system was not well when it began" in text
