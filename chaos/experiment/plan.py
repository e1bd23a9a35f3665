"""The plan: an experiment with one seed, nothing left to chance but the stores' own timing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos._declare import seconds
from chaos._seeds import stream
from chaos.errors import PlanError
from chaos.experiment.experiment import Experiment, KnownFailure
from chaos.experiment.places import refine, selector
from chaos.experiment.schedule import At, Heal, Next, Phase, Random, Rule, Trigger
from chaos.experiment.validate import problems_of
from chaos.faults.base import Fault

SCHEMA = 1


@dataclass(frozen=True)
class AtTime:
    """A moment `seconds` after the start of the load; `window` is what it was drawn from, None if it was declared."""

    seconds: float
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class AtPhase:
    """The nth time, 1-based from the start of the load, that any transaction reaches the phase `name`."""

    name: str
    nth: int


@dataclass(frozen=True)
class AtNext:
    """The next time that any transaction reaches the phase `name` in turn, see `schedule.Next`."""

    name: str
    after: int


@dataclass(frozen=True)
class AfterDelay:
    """`seconds` after the injection."""

    seconds: float


@dataclass(frozen=True)
class Never:
    """Not before the load has ended; then the harness heals it."""


@dataclass(frozen=True)
class PlannedRule:
    """One fault with its id ("f0", "f1" ... in the order written), its beginning and its end.

    Faults that were written in one rule share one `trigger`, the same object.
    """

    id: str
    trigger: AtTime | AtPhase | AtNext
    fault: Fault
    until: AfterDelay | AtPhase | AtNext | Never


@dataclass(frozen=True)
class Plan:
    """What a run executes. Two plans of the same experiment and seed are equal.

    `source` is the experiment's file, absolute; `alone` tells whether it holds no other experiment.
    """

    experiment: Experiment
    seed: int
    rules: tuple[PlannedRule, ...]
    source: Path
    alone: bool = True

    @property
    def selector(self) -> str:
        """What to write on a command line for this experiment and no other: "path.py" or "path.py::id"."""
        return selector(self.source, self.experiment.id, alone=self.alone)

    def to_json(self) -> dict[str, Any]:
        """Return all a reader needs, and all that `chaos check` needs to judge the run again without the file.

        Times are in seconds, and their names end in _s.
        """
        experiment = self.experiment
        return {
            "schema": SCHEMA,
            "experiment": {
                "id": experiment.id,
                "hypothesis": experiment.hypothesis,
                "tags": list(experiment.tags),
                "file": str(self.source),
                "line": experiment.where.line,
            },
            "seed": self.seed,
            "system": experiment.system.location(self.source),
            "system_settings": experiment.system.to_config(),
            "stores": {store.name: store.to_config() for store in experiment.stores},
            "workload": experiment.workload.to_config(),
            "steady_state": [{"probe": type(probe).__name__, **probe.arguments()} for probe in experiment.steady_state],
            "rules": [_rule_json(rule) for rule in self.rules],
            "recovery": {
                "budget_s": seconds(experiment.recovery.budget),
                "hold_s": seconds(experiment.recovery.hold),
            },
            "checks": [check.name for check in experiment.checks],
            "guards": {name: getattr(experiment.guards, name) for name in ("before", "during", "after")},
            "limits": {
                "wall_s": seconds(experiment.limits.wall),
                "overtime_s": None if experiment.limits.overtime is None else seconds(experiment.limits.overtime),
            },
            "expect": _expect_json(experiment.expect),
        }


def resolve(experiment: Experiment, seed: int, source: Path, *, alone: bool = True) -> Plan:
    """Return the plan of `experiment` for `seed`; `source` is its file.

    Moments within a window are drawn from the stream ("schedule", rule id) of the seed, to the millisecond,
    so that a rule that is added or taken away does not move the others' clients. Raises PlanError, with every
    problem, when the experiment is not valid.
    """
    problems = refine(problems_of(experiment))
    if problems:
        raise PlanError(problems)
    return Plan(experiment, seed, tuple(_planned(experiment, seed)), source.resolve(), alone)


def _planned(experiment: Experiment, seed: int) -> Iterator[PlannedRule]:
    index = 0
    for rule in experiment.schedule:
        trigger = _trigger(rule.trigger, seed, f"f{index}")
        for fault in rule.faults:
            yield PlannedRule(f"f{index}", trigger, fault, _until(rule))
            index += 1


def _trigger(trigger: Trigger, seed: int, first_id: str) -> AtTime | AtPhase | AtNext:
    """Return the moment; faults of one rule share it, drawn in the name of the first."""
    match trigger:
        case At():
            return AtTime(seconds(trigger.time))
        case Phase():
            return AtPhase(trigger.name, trigger.nth)
        case Next():
            return AtNext(trigger.name, trigger.after)
        case Random():
            low, high = (seconds(bound) for bound in trigger.between)
            return AtTime(round(stream(seed, "schedule", first_id).uniform(low, high), 3), (low, high))
    raise AssertionError(f"validated, yet unknown: {trigger!r}")


def _until(rule: Rule) -> AfterDelay | AtPhase | AtNext | Never:
    match rule.until:
        case Heal(after=None, at=Phase() as phase):
            return AtPhase(phase.name, phase.nth)
        case Heal(after=None, at=Next() as turn):
            return AtNext(turn.name, turn.after)
        case Heal(after=delay) if delay is not None:
            return AfterDelay(seconds(delay))
    return Never()


def _expect_json(expect: KnownFailure | None) -> dict[str, Any] | None:
    if expect is None:
        return None
    return {"check": list(expect.names), "also": list(expect.also), "reason": expect.reason}


def _rule_json(rule: PlannedRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "trigger": _moment_json(rule.trigger),
        "fault": {
            "kind": rule.fault.kind,
            "arguments": rule.fault.arguments(),
            "lasting": rule.fault.lasting,
            "stops_work": rule.fault.stops_work,
        },
        "until": _moment_json(rule.until),
    }


def _moment_json(moment: AtTime | AtPhase | AtNext | AfterDelay | Never) -> dict[str, Any]:
    match moment:
        case AtTime():
            drawn = {"drawn_from_s": list(moment.window)} if moment.window else {}
            return {"at_s": moment.seconds, **drawn}
        case AtPhase():
            return {"phase": moment.name, "nth": moment.nth}
        case AtNext():
            return {"next": moment.name, "after": moment.after}
        case AfterDelay():
            return {"after_s": moment.seconds}
        case Never():
            return {"load_end": True}
