"""The standard checks, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from chaos.checkers.atomic import Atomic
from chaos.checkers.completed import Completed
from chaos.checkers.converged import Converged
from chaos.checkers.durable import Durable
from chaos.checkers.exactly_once import ExactlyOnce
from chaos.checkers.invariants import Invariants
from chaos.checkers.isolation import Serializable, SnapshotIsolated, StrictSerializable
from chaos.checkers.landed import Landed
from chaos.checkers.model import Check
from chaos.checkers.no_zombie import NoZombie
from chaos.checkers.recovered import Recovered
from chaos.checkers.synced import Synced
from chaos.errors import PlanError, Problem

_STANDARD: tuple[Check, ...] = (
    Atomic(),
    Durable(),
    NoZombie(),
    ExactlyOnce(),
    Converged(),
    Recovered(),
    Synced(),
    Landed(),
)
_CHOSEN: tuple[Check, ...] = (SnapshotIsolated(), Serializable(), StrictSerializable(), Invariants(), Completed())
"""Those that need a workload which tells its reads, states rules of its data or is never in its own way; an experiment
names them."""

_BY_NAME = {check.name: check for check in (*_STANDARD, *_CHOSEN)}


def standard() -> tuple[Check, ...]:
    """Return the checks that suit every workload, in the order of the report."""
    return _STANDARD


def known() -> tuple[Check, ...]:
    """Return every check there is: the standard ones, then those that an experiment must name."""
    return tuple(_BY_NAME.values())


def by_name(name: str) -> Check:
    """Return the check called `name`. Raises KeyError, with the names there are, for any other."""
    if name not in _BY_NAME:
        close = get_close_matches(name, _BY_NAME, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise KeyError(f"check={name!r} must be one of {', '.join(_BY_NAME)}{hint}")
    return _BY_NAME[name]


def guarded(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return `checks` with `landed` among them: without it a run that tested nothing could pass all the others."""
    return tuple(checks) if any(check.name == Landed.name for check in checks) else (*checks, Landed())


def of_plan(plan: Mapping[str, Any], source: str = "plan.json") -> tuple[Check, ...]:
    """Return the checks that a plan.json names, in its order.

    source: the file's name, for messages. Raises PlanError for a name that is not a standard check: a user's
    own check lives in the experiment's file, so a stored run that used one is judged by running that file.
    """
    names = plan.get("checks")
    if not isinstance(names, list):
        text, remedy = f"checks={names!r} must be a list of names", "take an unedited copy of the run folder"
        raise PlanError([Problem(source, 0, text, remedy, "malformed-plan")])
    unknown = [name for name in names if name not in _BY_NAME]
    if unknown:
        text = f"checks=[{', '.join(map(repr, unknown))}] must be among {', '.join(_BY_NAME)}"
        remedy = "repeat the experiment instead; only standard checks can judge a stored run"
        raise PlanError([Problem(source, 0, text, remedy, "unknown-check")])
    return tuple(_BY_NAME[name] for name in names)
