"""The experiment that hits the frames of a run again: when its rules are armed, and when they are healed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chaos.history.sketch import Sketch
from chaos.report.script import render
from chaos.report.wire import Wire

AT = {"at_s": 2.0}
PHASE = {"phase": "redis.applying", "nth": 8}
HOLD = {"action": "hold", "until": "heal"}
LATER = {"after_s": 0.5}


def script(trigger: dict[str, Any], do: dict[str, Any], until: dict[str, Any], *, token: str | None = "c0.1") -> str:
    """Return how the one rule of a script begins and ends; in the run it held from 2 to 2.5 s of the load."""
    arguments = {"store": "redis", "command": "EVAL*", "nth": 3, "at": "before_reply", "do": do}
    arguments |= dict.fromkeys(("key", "client", "transaction", "byte"))
    fault = {"kind": "network.on_command", "arguments": arguments}
    plan = {
        "experiment": {"file": "/there/one.py", "id": "one"},
        "seed": 7,
        "rules": [{"id": "f0", "trigger": trigger, "fault": fault, "until": until}],
    }
    frame = {"connection": 1, "frame": 4, "command": "EVALSHA"}
    request = {"kind": "request", **frame, **({"token": token} if token else {})}
    wire = Wire.of([request, {"kind": "rule", **frame, "fault": "f0", "nth": 5}])
    sketch = Sketch().event("load_started", at=1.0)
    history = sketch.begin("f0", "network.on_command", at=3.0).end("f0", "network.on_command", at=3.5).history()
    text = render({"folder": "runs/one"}, plan, wire, history)
    compile(text, "again.py", "exec")
    found = re.search(r"^    (when\..+\.do)\(\n.*\n    \)(\..+),$", text, re.MULTILINE)
    assert found is not None, text
    return f"{found[1]}{found[2]}"


@pytest.mark.parametrize("trigger", [AT, PHASE])
@pytest.mark.parametrize(
    ("do", "until", "end"),
    [
        (HOLD, LATER, "heal(after=2.499)"),
        ({"action": "delay", "time_s": 0.1}, LATER, "heal(after=2.499)"),
        ({"action": "cut", "how": "stall"}, LATER, "heal(after=2.499)"),
        ({"action": "cut", "how": "rst"}, LATER, "never()"),
        ({"action": "drop"}, LATER, "never()"),
        (HOLD, {"phase": "acknowledged", "nth": 14}, "heal(at=when.phase('acknowledged', nth=14))"),
        (HOLD, {"load_end": True}, "never()"),
    ],
)
def test_a_rule_for_a_transaction_is_armed_from_the_start_and_healed_when_it_was(
    trigger: dict[str, Any], do: dict[str, Any], until: dict[str, Any], end: str
) -> None:
    """A delay that was planned behind the injection becomes the moment at which it ended, where a heal does anything."""
    assert script(trigger, do, until) == f"when.at(0.001).do.{end}"


@pytest.mark.parametrize(("trigger", "moment"), [(AT, "at(2.0)"), (PHASE, "phase('redis.applying', nth=8)")])
def test_a_rule_for_nobody_keeps_its_plan(trigger: dict[str, Any], moment: str) -> None:
    """Where the hit's transaction is not known, the rule begins and ends as it was planned."""
    assert script(trigger, HOLD, LATER, token=None) == f"when.{moment}.do.heal(after=0.5)"
