from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from chaos.checkers import Atomic, Check, Context, Verdict, by_name, conclude, judge, known, merge, of_plan, standard
from chaos.checkers.model import Validity
from chaos.errors import HarnessError, PlanError
from chaos.history.sketch import Sketch
from chaos.history.view import History

CONTEXT = Context(stores=("sqlite", "redis", "graph"))
PLAN: dict[str, Any] = {
    "stores": {"sqlite": {"readers": 2}, "redis": {}, "graph": {}},
    "recovery": {"budget_s": 5.0, "hold_s": 0.5},
    "guards": {"before": 1, "during": 2, "after": 3},
    "rules": [{"id": "f0", "trigger": {"at_s": 1.0}, "fault": {"kind": "process.kill", "lasting": False}}],
    "checks": ["atomic", "landed"],
    "expect": {"check": "atomic", "reason": "It has no log."},
}


def verdicts(**validity: Validity) -> list[Verdict]:
    """Return a verdict for each name."""
    return [Verdict(name=name, valid=valid, summary=f"{name} said so") for name, valid in validity.items()]


@dataclass(frozen=True)
class Raises:
    """A check with a mistake in it."""

    name: ClassVar[str] = "raises"

    def judge(self, history: History, context: Context) -> Verdict:
        """Fail."""
        raise ZeroDivisionError("oops")


@dataclass(frozen=True)
class Shrugs:
    """A check that returns no verdict."""

    name: ClassVar[str] = "shrugs"

    def judge(self, history: History, context: Context) -> Verdict:
        """Return the wrong thing."""
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("validities", "merged"),
    [
        (("valid", "unknown", "invalid"), "invalid"),
        (("valid", "unknown"), "unknown"),
        (("valid", "valid"), "valid"),
        ((), "unknown"),
    ],
)
def test_invalid_beats_unknown_beats_valid(validities: tuple[Validity, ...], merged: Validity) -> None:
    """Verdicts merge in the order of severity, and nothing judged is nothing known."""
    assert merge(validities) == merged


@pytest.mark.parametrize(
    ("validity", "verdict", "exit_code", "sentence"),
    [
        ({"atomic": "valid", "durable": "valid"}, "pass", 0, "pass: all 2 checks hold."),
        ({"atomic": "invalid", "landed": "unknown"}, "fail", 1, "fail: atomic is broken: atomic said so."),
        (
            {"atomic": "invalid", "durable": "invalid"},
            "fail",
            1,
            "fail: atomic and durable are broken; atomic: atomic said so.",
        ),
        (
            {"atomic": "valid", "landed": "unknown"},
            "inconclusive",
            3,
            "inconclusive: landed could not be judged: landed said so. A check without an answer is no pass.",
        ),
        ({}, "inconclusive", 3, "inconclusive: no check was asked for."),
    ],
)
def test_conclusion_without_expectation(
    validity: dict[str, Validity], verdict: str, exit_code: int, sentence: str
) -> None:
    """A run passes only when every check is valid."""
    conclusion = conclude(verdicts(**validity))
    assert (conclusion.verdict, conclusion.exit_code, conclusion.sentence) == (verdict, exit_code, sentence)


@pytest.mark.parametrize(
    ("validity", "verdict", "exit_code", "words"),
    [
        ({"atomic": "invalid", "durable": "valid"}, "pass", 0, "atomic is broken, as known: no log."),
        ({"atomic": "valid", "durable": "valid"}, "fail", 1, "was expected to be broken and holds"),
        ({"atomic": "invalid", "durable": "invalid"}, "fail", 1, "durable is broken, which is not the known failure"),
        ({"atomic": "valid", "durable": "invalid"}, "fail", 1, "durable is broken, which is not the known failure"),
        ({"atomic": "invalid", "durable": "unknown"}, "inconclusive", 3, "durable could not be judged"),
        ({"atomic": "unknown", "durable": "valid"}, "inconclusive", 3, "atomic could not be judged"),
        ({"atomic": "unknown", "durable": "invalid"}, "fail", 1, "durable is broken"),
        ({"durable": "valid"}, "inconclusive", 3, "was not among the checks"),
    ],
)
def test_conclusion_with_a_known_failure(
    validity: dict[str, Validity], verdict: str, exit_code: int, words: str
) -> None:
    """A known failure passes exactly when it is seen and nothing else is broken or unknown."""
    conclusion = conclude(verdicts(**validity), {"check": "atomic", "reason": "no log."})
    assert (conclusion.verdict, conclusion.exit_code) == (verdict, exit_code)
    assert words in conclusion.sentence


@pytest.mark.parametrize(
    ("durable", "exactly_once", "exit_code"),
    [("invalid", "valid", 0), ("invalid", "invalid", 0), ("valid", "invalid", 1), ("invalid", "unknown", 3)],
)
def test_several_known_failures_and_their_company(durable: Validity, exactly_once: Validity, exit_code: int) -> None:
    """All named checks must be broken; those in `also` may be."""
    expect = {"check": ["atomic", "durable"], "also": ["exactly_once"], "reason": "no log"}
    seen = verdicts(atomic="invalid", durable=durable, exactly_once=exactly_once)
    assert conclude(seen, expect).exit_code == exit_code


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (Raises(), "check raises failed on sketch: ZeroDivisionError: oops"),
        (Shrugs(), "check shrugs must return a Verdict, not NoneType"),
    ],
)
def test_a_broken_check_is_the_harness_failing(check: Check, words: str) -> None:
    """A mistake in a check never becomes a verdict on the stores."""
    with pytest.raises(HarnessError, match=words):
        judge(Sketch().history(), (Atomic(), check), CONTEXT)


def test_verdicts_come_in_the_order_of_the_checks() -> None:
    """One verdict for each check, under the check's own name."""
    history = Sketch().commit(0, "t0").history()
    assert [verdict.name for verdict in judge(history, standard(), CONTEXT)] == [check.name for check in standard()]


def test_standard_checks_are_found_by_name() -> None:
    """Each has a name of its own; a wrong one is answered with what there is."""
    assert [by_name(check.name) for check in known()] == list(known())
    assert set(standard()) < set(known())
    assert all(isinstance(check, Check) for check in known())
    with pytest.raises(KeyError, match=r"check='atomc' must be one of atomic, .*did you mean atomic"):
        by_name("atomc")


def test_the_context_comes_from_the_plan() -> None:
    """All that a checker needs is in plan.json, so a stored run can be judged again."""
    context = Context.from_plan(PLAN)
    assert context.stores == ("sqlite", "redis", "graph")
    assert (context.budget_s, context.hold_s, context.guards.during) == (5.0, 0.5, 2)
    assert [(fault.id, fault.kind, fault.lasting) for fault in context.faults] == [("f0", "process.kill", False)]
    assert context.expect is not None
    assert context.expect.names == ("atomic",)
    assert [check.name for check in of_plan(PLAN)] == ["atomic", "landed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recovery": {"budget_s": "long"}}, r"runs/x/plan\.json: is not the plan of a run.*budget_s"),
        ({"rules": [{}]}, r"runs/x/plan\.json: is not the plan of a run.*id"),
        ({"stores": None}, "is not the plan of a run"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    """A wrong plan.json is named, with what is wrong in it."""
    with pytest.raises(PlanError, match=words):
        Context.from_plan({**PLAN, **change}, "runs/x/plan.json")


@pytest.mark.parametrize(("checks", "words"), [(["mine"], r"checks=\['mine'\] must be among atomic"), (3, "checks=3")])
def test_checks_that_are_not_known_are_refused(checks: object, words: str) -> None:
    """A stored run that used a user's own check cannot be judged without its file."""
    with pytest.raises(PlanError, match=words):
        of_plan({**PLAN, "checks": checks})
