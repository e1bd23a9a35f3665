"""Every mistake of an experiment at once: those inside each value, then those between values.

Nothing is started and nothing outside the experiment is asked. The second kind is looked for only where the
values concerned are good themselves, so that one mistake is told once.
"""

from __future__ import annotations

import difflib
import random
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from chaos._declare import Declared, Duration, seconds
from chaos.checkers import Check, known
from chaos.errors import Problem
from chaos.experiment.experiment import Experiment, Guards, KnownFailure, Limits, Recovery
from chaos.experiment.probes import Probe
from chaos.experiment.providers import nobody
from chaos.experiment.schedule import At, Heal, Next, Phase, Random, Rule, Trigger
from chaos.experiment.systems import SystemSpec
from chaos.faults.base import Fault
from chaos.stores.spec import StoreSpec
from chaos.workload import KINDS

STORES = ("sqlite", "redis", "graph")
NETWORKED = ("redis",)


@runtime_checkable
class _Workload(Protocol):
    """What must be there for a value to be taken for a workload (see `chaos.workload.base.Workload`)."""

    seconds: Duration

    def problems(self) -> Iterator[Problem]:
        """Yield its mistakes."""

    def to_config(self) -> dict[str, Any]:
        """Describe it."""

    def draw(self, rng: random.Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw a transaction."""


_SINGLE: dict[str, tuple[type, str]] = {
    "system": (SystemSpec, "write system=systems.Redo() or another of chaos.systems"),
    "workload": (_Workload, "write workload=workload.Transfers(...)"),
    "recovery": (Recovery, 'write recovery=Recovery(budget="10s")'),
    "guards": (Guards, "write guards=Guards(before=1)"),
    "limits": (Limits, 'write limits=Limits(wall="60s")'),
    "expect": (KnownFailure, "write expect=KnownFailure(check=..., reason=...), or None"),
}
_SEQUENCES: dict[str, tuple[type, str]] = {
    "tags": (str, "text"),
    "stores": (StoreSpec, "stores.SQLite(...), stores.Redis(...), stores.Graph(...)"),
    "steady_state": (Probe, "a value of chaos.probes"),
    "schedule": (Rule, "when.at(...).do(...) or another rule"),
    "checks": (Check, "values of chaos.checks, such as checks.Atomic()"),
}


def problems_of(experiment: Experiment) -> list[Problem]:
    """Return every mistake, in no order and at the line of the call; `places.refine` sorts and sharpens them."""
    misshapen = _shape(experiment)
    found = [problem for problems in misshapen.values() for problem in problems]
    found += experiment.problems()
    for value in _parts(experiment, misshapen):
        found += value.problems()
    for look, fields in _ACROSS.items():
        if not any(name in misshapen for name in fields):
            found += look(experiment)
    return found


def time_of(value: Any) -> float | None:
    """Return `value` as seconds, or None where it is no time (its own value has told so already)."""
    try:
        return seconds(value)
    except ValueError:
        return None


def _shape(experiment: Experiment) -> dict[str, list[Problem]]:
    """Return the problems of each field that holds another kind of thing than it must.

    The key is the field's name, or "<name> items" when it is a sequence that holds something wrong.
    """
    misshapen: dict[str, list[Problem]] = {}
    for name, (kind, remedy) in _SINGLE.items():
        value = getattr(experiment, name)
        if not _is(value, kind) and not (name == "expect" and value is None):
            misshapen[name] = [_wrong_kind(experiment, name, f"a {kind.__name__.lstrip('_')}", remedy)]
    for name, (kind, remedy) in _SEQUENCES.items():
        items = getattr(experiment, name)
        if not isinstance(items, list | tuple):
            remedy_here = f"write {name}=(...,) with a comma after each item"
            misshapen[name] = [_wrong_kind(experiment, name, "a tuple", remedy_here)]
            continue
        wrong = [_wrong_item(experiment, name, item, remedy) for item in items if not _is(item, kind)]
        if wrong:
            misshapen[f"{name} items"] = wrong
    return misshapen


def _is(item: object, kind: type) -> bool:
    """Tell whether `item` is a value of `kind`: a class is not, though it may look like one to a protocol."""
    return isinstance(item, kind) and not isinstance(item, type)


def _wrong_kind(experiment: Experiment, name: str, must: str, remedy: str) -> Problem:
    return experiment.problem(f"{name}={getattr(experiment, name)!r}) must be {must}", remedy, "wrong-kind")


def _wrong_item(experiment: Experiment, name: str, item: object, remedy: str) -> Problem:
    if isinstance(item, Trigger):
        return item.problem("...) must be followed by .do(...)", "name the fault with .do(faults. ...)", "no-fault")
    return experiment.problem(f"{name}=...{item!r}...) is not of the right kind", f"use {remedy}", "wrong-item")


def _parts(experiment: Experiment, misshapen: Container[str]) -> Iterator[Declared]:
    """Yield every declared value below the experiment that knows its own mistakes."""
    for name in _SINGLE:
        value = getattr(experiment, name)
        if name not in misshapen and value is not None:
            yield value
    for name in ("stores", "steady_state", "schedule"):
        if name not in misshapen:
            yield from (item for item in getattr(experiment, name) if _is(item, _SEQUENCES[name][0]))


def _workload(experiment: Experiment) -> Iterator[Problem]:
    """The worker, a process of its own, can make the workload again."""
    workload = experiment.workload
    if any(workload.problems()):
        return
    kind = workload.to_config().get("kind")
    if kind not in KINDS:
        yield experiment.problem(
            f"workload=...) must be of a kind that the worker can make again: {', '.join(KINDS)}, not {kind!r}",
            "use workload.Transfers(...); what a transaction does is decided by the system (systems.Own)",
            "foreign-workload",
        )


def _stores(experiment: Experiment) -> Iterator[Problem]:
    """Each of the three stores is there exactly once."""
    counts = Counter(store.name for store in experiment.stores)
    for name in STORES:
        if counts[name] != 1:
            kind = {"sqlite": "SQLite", "redis": "Redis", "graph": "Graph"}[name]
            yield experiment.problem(
                f"stores=...) must have {name} exactly once, not {counts[name]} times",
                f"give one stores.{kind}(...)",
                "store-count",
            )


def _targets(experiment: Experiment) -> Iterator[Problem]:
    """Each fault aims at a store of this experiment, or at a process of its run; network faults at one reached so."""
    known = (*dict.fromkeys(store.name for store in experiment.stores), "worker")
    for fault in _faults(experiment):
        for attribute in ("store", "target"):
            aim = getattr(fault, attribute, None)
            if aim is not None and aim not in known and not any(fault.problems()):
                possible = _aims(fault, attribute, known)
                yield fault.problem(
                    f"{attribute}={aim!r}) must be one of {', '.join(possible)}{_closest(aim, possible)}",
                    f"correct {attribute}, or declare the store",
                    "unknown-store",
                )
            elif aim is not None and fault.kind.startswith("network.") and aim in known and aim not in NETWORKED:
                yield fault.problem(
                    f"{attribute}={aim!r}) must be reached over a network: {', '.join(NETWORKED)}",
                    "name such a store, or use a disk or process fault",
                    "not-networked",
                )


def _aims(fault: Fault, attribute: str, known: Sequence[str]) -> list[str]:
    """Return which of the names known a fault of this kind may aim at."""
    if fault.kind.startswith("network."):
        return [name for name in known if name in NETWORKED]
    if fault.kind.startswith("disk.") or attribute == "store":
        return [name for name in known if name != "worker"]
    return list(known)


def _unlogged(experiment: Experiment) -> Iterator[Problem]:
    """No files are changed behind the back of the log that a loss of power is rebuilt from."""
    if any(fault.kind == "disk.power_loss" for fault in _faults(experiment)):
        for fault in _faults(experiment):
            if fault.kind == "process.corrupt":
                yield fault.problem(
                    "...) must not be in one schedule with a PowerLoss, whose log of file operations lacks the change",
                    "make an experiment for each",
                    "unlogged-change",
                )


def _phases(experiment: Experiment) -> Iterator[Problem]:
    """Each phase named is one that the system reports."""
    known = experiment.system.phases
    if known is None:
        return
    for phase in _named_phases(experiment):
        if isinstance(phase.name, str) and phase.name and phase.name not in known:
            yield phase.problem(
                f"name={phase.name!r}) must be a phase of systems.{type(experiment.system).__name__}()"
                f"{_closest(phase.name, known)}",
                f"use one of {', '.join(sorted(known))}",
                "unknown-phase",
            )


def _moments(experiment: Experiment) -> Iterator[Problem]:
    """Every rule begins, and ends where that is known, while the clients work."""
    load_s = time_of(getattr(experiment.workload, "seconds", None))
    if load_s is None:
        return
    for rule in _rules(experiment):
        begin_s = _latest_begin_s(rule)
        if begin_s is None:
            continue
        if begin_s >= load_s:
            yield rule.trigger.problem(
                f"{_written(rule.trigger)}) must be before the load ends at {load_s:g}s",
                "begin earlier, or give the workload more seconds",
                "after-load",
            )
        elif isinstance(rule.until, Heal) and rule.until.after is not None:
            delay_s = time_of(rule.until.after)
            if delay_s is not None and begin_s + delay_s >= load_s:
                yield rule.until.problem(
                    f"after={rule.until.after!r}) ends at {begin_s + delay_s:g}s and must end before the load does"
                    f" at {load_s:g}s",
                    "heal sooner, or give the workload more seconds",
                    "heal-after-load",
                )


def _room_for_guards(experiment: Experiment) -> Iterator[Problem]:
    """No work is demanded before a fault that begins with the load (after one there is always time, `runner.run`)."""
    guards = experiment.guards
    for rule in _rules(experiment):
        if _positive(guards.before) and isinstance(rule.trigger, At) and time_of(rule.trigger.time) == 0.0:
            yield rule.trigger.problem(
                f"time={rule.trigger.time!r}) must be above 0s: Guards(before={guards.before}) asks for work first",
                "begin later, or set guards=Guards(before=0)",
                "no-work-before",
            )


def _checks(experiment: Experiment) -> Iterator[Problem]:
    """There is a check, none twice, and the expectation names one of them."""
    names = [check.name for check in experiment.checks]
    if not names:
        yield experiment.problem("checks=()) must name at least one", "write checks=checks.standard()", "no-check")
    for name, count in Counter(names).items():
        if count > 1:
            yield experiment.problem(f"checks=...) must have {name} once, not {count} times", "drop one", "check-twice")
    there = [check.name for check in known()]
    for name in names:
        if name not in there:
            yield experiment.problem(
                f"checks=...{name}...) must be one of {', '.join(there)}{_closest(name, there)}",
                "use one of these, so that a stored run can be judged again without this file",
                "foreign-check",
            )
    expect = experiment.expect
    if expect is None or any(expect.problems()):
        return
    for attribute, expected in (("check", expect.names), ("also", tuple(expect.also))):
        for name in expected:
            if name not in names:
                yield expect.problem(
                    f"{attribute}={name!r}) must be one of the checks {', '.join(names)}{_closest(name, names)}",
                    "correct the name, or add the check",
                    "unknown-check",
                )


def _wall(experiment: Experiment) -> Iterator[Problem]:
    """The wall limit leaves room for the load and for holding still after it."""
    wall_s, hold_s = time_of(experiment.limits.wall), time_of(experiment.recovery.hold)
    load_s = time_of(getattr(experiment.workload, "seconds", None))
    if wall_s is None or hold_s is None or load_s is None:
        return
    if wall_s <= load_s + hold_s:
        yield experiment.limits.problem(
            f"wall={experiment.limits.wall!r}) must exceed load and hold time, {load_s + hold_s:g}s together",
            "raise wall, or shorten the workload",
            "wall-too-short",
        )


def _rules(experiment: Experiment) -> Iterator[Rule]:
    """Yield the rules of a schedule that may hold other things too."""
    yield from (item for item in experiment.schedule if isinstance(item, Rule))


def _faults(experiment: Experiment) -> Iterator[Fault]:
    for rule in _rules(experiment):
        yield from (fault for fault in rule.faults if isinstance(fault, Fault))


def _named_phases(experiment: Experiment) -> Iterator[Phase | Next]:
    for rule in _rules(experiment):
        if isinstance(rule.trigger, Phase | Next):
            yield rule.trigger
        for until in rule.untils:
            if isinstance(until, Heal) and isinstance(until.at, Phase | Next):
                yield until.at


def _latest_begin_s(rule: Rule) -> float | None:
    """Return the latest moment at which the rule may begin; None when a phase decides, or the time is bad."""
    if isinstance(rule.trigger, At):
        return time_of(rule.trigger.time)
    if isinstance(rule.trigger, Random) and not any(rule.trigger.problems()):
        return time_of(rule.trigger.between[1])
    return None


def _written(trigger: Trigger) -> str:
    if isinstance(trigger, At):
        return f"time={trigger.time!r}"
    return f"between={trigger.between!r}" if isinstance(trigger, Random) else "..."


def _positive(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _closest(name: object, known: Iterable[str]) -> str:
    """Return a suggestion, with its leading comma; empty when nothing is close."""
    matches = difflib.get_close_matches(str(name), sorted(known), 1)
    return f", perhaps {matches[0]}" if matches else ""


_ACROSS: dict[Callable[[Experiment], Iterator[Problem]], tuple[str, ...]] = {
    _workload: ("workload",),
    _stores: ("stores", "stores items"),
    _targets: ("stores", "stores items", "schedule"),
    _unlogged: ("schedule",),
    _phases: ("system", "schedule"),
    _moments: ("workload", "schedule"),
    _room_for_guards: ("guards", "schedule"),
    nobody: ("schedule",),
    _checks: ("checks", "checks items", "expect"),
    _wall: ("limits", "recovery", "workload"),
}
"""What is looked for between values, and the fields that must be of the right kind for it."""
