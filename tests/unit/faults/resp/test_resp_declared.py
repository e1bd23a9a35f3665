"""What a user may write for a rule on commands, and what is told about a mistake."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from chaos import faults
from chaos.errors import HarnessError
from chaos.faults.network.kinds import make_toxic
from chaos.faults.network.resp.actions import POINTS
from chaos.faults.network.resp.rule import OnCommandToxic

GOOD = [
    faults.Cut("half_close"),
    faults.Drop(),
    faults.Delay("20ms"),
    faults.Duplicate(),
    faults.Forge("-OOM"),
    faults.Hold(),
    faults.Hold(until=faults.Seen("SET", key="a*", nth=2, at="reply")),
]


@pytest.mark.parametrize("action", GOOD, ids=lambda action: type(action).__name__)
@pytest.mark.parametrize("at", POINTS)
def test_a_toxic_takes_what_may_be_declared(action: faults.Cut, at: str) -> None:
    """Where the action makes sense there is no problem, and its arguments are plain JSON that a toxic takes."""
    byte = 3 if at.endswith("_byte") else None
    fault = faults.OnCommand("redis", "EXEC", key="k*", client="c", transaction="c0.1", at=at, byte=byte, do=action)
    problems = [problem.slug for problem in fault.problems()]
    assert problems == ([] if at in action.points else ["action-not-here"])
    arguments = fault.arguments()
    assert json.loads(json.dumps(arguments)) == arguments
    toxic = make_toxic(fault.kind, fault.toxic_arguments(Random(0)))
    assert isinstance(toxic, OnCommandToxic)


@pytest.mark.parametrize(
    ("arguments", "slug"),
    [
        ({"command": ""}, "no-command"),
        ({"command": 7}, "no-command"),
        ({"store": ""}, "no-store-name"),
        ({"key": b"k"}, "no-text"),
        ({"client": ""}, "no-text"),
        ({"transaction": 3}, "no-text"),
        ({"nth": 0}, "bad-nth"),
        ({"nth": True}, "bad-nth"),
        ({"times": 0}, "bad-nth"),
        ({"at": "during"}, "not-a-choice"),
        ({"byte": 1}, "byte-and-point"),
        ({"at": "reply_byte"}, "byte-and-point"),
        ({"at": "reply_byte", "byte": "1"}, "bad-byte"),
        ({"do": "cut"}, "not-an-action"),
        ({"do": faults.Cut}, "not-an-action"),
        ({"do": faults.Cut("off")}, "not-a-choice"),
        ({"do": faults.Delay("soon")}, "not-a-time"),
        ({"do": faults.Delay("2m")}, "out-of-range"),
        ({"do": faults.Forge("OK")}, "bad-reply"),
        ({"do": faults.Forge("+OK\r\n+OK")}, "bad-reply"),
        ({"do": faults.Hold(until="later")}, "bad-until"),
        ({"do": faults.Hold(until=faults.Seen("", nth=0, at="x"))}, "no-command"),
        ({"do": faults.Duplicate(), "at": "before_reply"}, "action-not-here"),
    ],
)
def test_mistakes_are_told(arguments: dict[str, Any], slug: str) -> None:
    """Each mistake has its slug and names the value; nothing is raised."""
    fault = faults.OnCommand(**{"store": "redis", "command": "EXEC", "do": faults.Drop(), **arguments})
    found = list(fault.problems())
    assert slug in [problem.slug for problem in found]
    assert all(__file__ == problem.file for problem in found)


def test_all_mistakes_of_a_seen_are_told() -> None:
    """An event is checked as the rule is."""
    event = faults.Seen("", key="", client="", nth=0, at="x")
    assert [problem.slug for problem in event.problems()] == [
        "no-command",
        "no-text",
        "no-text",
        "bad-nth",
        "not-a-choice",
    ]


def test_only_our_own_proxy_can_do_it() -> None:
    """The others are refused with the reason."""
    fault = faults.OnCommand("redis", "EXEC", do=faults.Drop())
    assert fault.refused_by("embedded") is None
    assert "commands" in str(fault.refused_by("toxiproxy"))
    assert "commands" in str(fault.refused_by("docker"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "EXEC", "do": {"action": "explode"}},
        {"command": "EXEC", "do": {"action": "cut", "how": "off"}},
        {"command": "EXEC", "do": {"action": "drop"}, "at": "never"},
        {"command": "EXEC", "do": {"action": "drop"}, "colour": "red"},
    ],
)
def test_the_proxy_refuses_what_it_does_not_know(arguments: dict[str, Any]) -> None:
    """What no declared fault sends is refused all the same."""
    with pytest.raises(HarnessError):
        make_toxic("network.on_command", arguments)


def test_evidence_decides_whether_it_landed() -> None:
    """A rule that matched and hit nothing did nothing."""
    fault = faults.OnCommand("redis", "EXEC", nth=2, do=faults.Drop())
    assert not fault.landed({"frames_matched": 1})
    assert fault.landed({"frames_matched": 2, "frames_hit": 1})
