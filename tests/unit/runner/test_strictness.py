from __future__ import annotations

from typing import Any

import pytest

from chaos.crashpoints.findings import Finding
from chaos.crashpoints.judge import Outcome
from chaos.runner.strictness import GONE, GONE_WITHOUT_SHIM, conclude

EXPECT = {"outcome": ["hangs"], "versions": ["1", "2"], "reason": "It waits.", "says": "for ever", "also": ["crashes"]}


def plan(kind: str = "faulted", **changes: Any) -> dict[str, Any]:
    """Return what of a plan.json matters."""
    return {"subject": "kuzu", "trial": {"kind": kind}, "expect": {**EXPECT, **changes}}


def seen(outcome: Outcome, detail: str = "waits for ever") -> Finding:
    """Return one thing that was seen."""
    return Finding(outcome=outcome, detail=detail, crash="a failing call", state="", states=1)


@pytest.mark.parametrize(
    ("version", "found", "verdict", "code", "words"),
    [
        ("1", [Outcome.HANGS], "pass", 0, "fails as known of kuzu 1"),
        ("2", [Outcome.HANGS, Outcome.CRASHES], "pass", 0, "fails as known of kuzu 2"),
        ("1", [], "fail", 1, GONE),
        ("1", [Outcome.CRASHES], "fail", 1, GONE),
        ("1", [Outcome.HANGS, Outcome.LOST], "fail", 1, "which is not what is known of kuzu 1"),
        ("3", [], "pass", 0, "not among the affected versions (1 and 2), and does not fail"),
        ("3", [Outcome.HANGS], "fail", 1, "in kuzu 3, which is not among the affected versions"),
    ],
)
def test_strict_both_ways_and_by_version(
    version: str, found: list[Outcome], verdict: str, code: int, words: str
) -> None:
    """Exactly the known defect passes in the versions named, and nothing at all in every other one."""
    concluded = conclude(plan(), version, [seen(outcome) for outcome in found])
    assert (concluded.verdict, concluded.exit_code) == (verdict, code)
    assert words in concluded.sentence


def test_the_same_outcome_with_other_words_is_another_defect() -> None:
    """What the store says belongs to what is known."""
    concluded = conclude(plan(), "1", [seen(Outcome.HANGS, "waits a little")])
    assert concluded.exit_code == 1
    assert "nowhere the words 'for ever'" in concluded.sentence


def test_every_outcome_that_is_known_must_be_seen() -> None:
    """Of two that are known, one alone is not enough."""
    both = plan(outcome=["hangs", "refuses to open"])
    assert conclude(both, "1", [seen(Outcome.HANGS)]).exit_code == 1
    assert conclude(both, "1", [seen(Outcome.HANGS), seen(Outcome.REFUSES)]).exit_code == 0


def test_steps_without_the_shim_cannot_blame_it() -> None:
    """What shows nothing more in a plain process is fixed, or the steps are."""
    assert GONE_WITHOUT_SHIM in conclude(plan("undisturbed"), "1", []).sentence


@pytest.mark.parametrize("version", ["1", "3"])
def test_a_trial_that_shows_nothing_is_no_pass(version: str) -> None:
    """Neither for an affected version nor for another one."""
    concluded = conclude(plan(), version, [], note="no call met the fault")
    assert (concluded.verdict, concluded.exit_code) == ("inconclusive", 3)
