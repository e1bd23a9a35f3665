"""The verdict names the crash that earned it."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.checkers import Atomic, Context, Durable
from chaos.checkers.crashes import crash_of
from chaos.history.sketch import Sketch

CONTEXT = Context(stores=("sqlite", "redis", "graph"))


def _struck(*faults: tuple[str, dict[str, Any]], landed: bool = True) -> Sketch:
    """Sketch one acknowledged transaction, and faults at points in time after it."""
    sketch = Sketch().commit(0, "t0")
    for number, (kind, arguments) in enumerate(faults):
        sketch.begin(f"f{number}", kind, lasting=False, arguments=arguments).end(f"f{number}", kind, landed=landed)
    return sketch


POSIX = ("disk.power_loss", {"policy": "posix"})
RANDOM = ("disk.power_loss", {"policy": "random"})
APPLIED = ("disk.power_loss", {"policy": "applied"})
KILL = ("process.kill", {"target": "worker"})
CUT = ("network.disconnect", {"how": "rst"})


@pytest.mark.parametrize(
    ("faults", "crash"),
    [
        ((), None),
        ((CUT,), None),
        ((KILL,), "process crash"),
        ((APPLIED,), "process crash"),
        ((KILL, POSIX), "power loss (posix)"),
        ((RANDOM, APPLIED, POSIX, RANDOM), "power loss (random, posix)"),
    ],
)
def test_the_hardest_crash_counts(faults: tuple[tuple[str, dict[str, Any]], ...], crash: str | None) -> None:
    """A loss of power is harder than a kill, unless it took nothing but the processes."""
    assert crash_of(_struck(*faults).history()) == crash


def test_a_crash_that_did_not_land_earns_nothing() -> None:
    """A loss of power that was refused leaves the verdict without one."""
    assert crash_of(_struck(POSIX, landed=False).history()) is None


def test_the_summaries_of_what_holds_name_it() -> None:
    """Durable and atomic say against what they hold, in words and in the details."""
    marks = {"t0": "m-t0"}
    history = _struck(POSIX).read_both(sqlite=marks, redis=marks, graph=marks).history()
    for check in (Durable(), Atomic()):
        verdict = check.judge(history, CONTEXT)
        assert verdict.valid == "valid"
        assert verdict.summary.endswith(", against power loss (posix)")
        assert verdict.details["crash"] == "power loss (posix)"


def test_the_summaries_of_what_broke_name_it() -> None:
    """They say after what it broke."""
    history = _struck(POSIX).read_both(sqlite={}, redis={"t0": "m-t0"}, graph={}).history()
    for check in (Durable(), Atomic()):
        verdict = check.judge(history, CONTEXT)
        assert verdict.valid == "invalid"
        assert verdict.summary.endswith(", after power loss (posix)")
