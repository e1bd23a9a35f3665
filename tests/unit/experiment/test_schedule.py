from __future__ import annotations

import inspect

import pytest

from chaos import faults, when
from chaos.errors import Problem
from chaos.experiment.schedule import Heal, Never, Phase, Rule


def slugs(rule: Rule) -> list[str]:
    """Return the slugs of a rule's problems."""
    return [problem.slug for problem in rule.problems()]


def here() -> int:
    """Return the line that calls."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_rule_keeps_what_was_written() -> None:
    """A rule holds its moment, its faults in order and its end."""
    first, second = faults.Kill("worker"), faults.Pause("graph")
    rule = when.phase("acknowledged", nth=3).do(first, second).heal(after="2s")
    assert rule.trigger == Phase("acknowledged", 3)
    assert rule.faults == (first, second)
    assert rule.until == Heal(after="2s")
    assert slugs(rule) == []


def test_never_is_an_end() -> None:
    """`.never()` is a good end, and differs from none having been written."""
    rule = when.at("1s").do(faults.Pause("redis"))
    assert rule.until is None
    assert rule.never().until == Never()
    assert slugs(rule.never()) == []


@pytest.mark.parametrize(
    ("rule", "slug"),
    [
        (when.at("soon").do(faults.Kill("worker")), "not-a-time"),
        (when.at(-1).do(faults.Kill("worker")), "not-a-time"),
        (when.phase("acknowledged", nth=0).do(faults.Kill("worker")), "bad-nth"),
        (when.phase("acknowledged", nth=True).do(faults.Kill("worker")), "bad-nth"),
        (when.phase("", nth=1).do(faults.Kill("worker")), "no-name"),
        (when.next("acknowledged", after=-1).do(faults.Kill("worker")), "bad-nth"),
        (when.next("", after=1).do(faults.Kill("worker")), "no-name"),
        (when.at("1s").do(faults.Pause("redis")).heal(at=when.next("applied", after=0.5)), "bad-nth"),  # type: ignore[arg-type]
        (when.random(between=("7s", "5s")).do(faults.Kill("worker")), "bad-window"),
        (when.random(between="5s").do(faults.Kill("worker")), "bad-window"),  # type: ignore[arg-type]
        (when.at("1s").do(), "no-fault"),
        (when.at("1s").do("kill it"), "not-a-fault"),  # type: ignore[arg-type]
        (when.at("1s").do(faults.Kill("nobody")), "unknown-target"),
        (when.at("1s").do(faults.Pause("redis")).heal(), "heal-needs-one"),
        (when.at("1s").do(faults.Pause("redis")).heal(after="1s", at=when.phase("applied")), "heal-needs-one"),
        (when.at("1s").do(faults.Pause("redis")).heal(after="later"), "not-a-time"),
        (when.at("1s").do(faults.Pause("redis")).heal(at="applied"), "heal-needs-phase"),  # type: ignore[arg-type]
        (when.at("1s").do(faults.Pause("redis")).heal(at=when.phase("applied", nth=-2)), "bad-nth"),
        (when.at("1s").do(faults.Pause("redis")).heal(after="1s").never(), "two-ends"),
    ],
)
def test_each_mistake_has_its_slug(rule: Rule, slug: str) -> None:
    """Nothing raises for a bad value; each mistake is told once, by its slug."""
    assert slugs(rule) == [slug]


def test_problems_are_placed_where_the_value_was_written() -> None:
    """The line is that of the value at fault, not that of the rule around it, and the text is the user's own."""
    trigger = when.at("soon")
    trigger_line = here() - 1
    heal_line = here() + 1
    rule = trigger.do(faults.Pause("redis")).heal(after="later")
    found: list[Problem] = sorted(rule.problems())
    assert [(problem.file, problem.line) for problem in found] == [(__file__, trigger_line), (__file__, heal_line)]
    assert found[0].text.startswith("when.at(time='soon')")
    assert found[1].text.startswith("heal(after='later')")
