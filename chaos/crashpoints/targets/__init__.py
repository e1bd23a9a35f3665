"""The stores that can be explored, each by its name."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.crashpoints.targets.base import BuiltIn
from chaos.crashpoints.targets.graph import KuzuTarget, LadybugTarget
from chaos.crashpoints.targets.redis import RedisTarget
from chaos.crashpoints.targets.sqlite import SQLiteTarget
from chaos.crashpoints.targets.steps import StepsTarget, load_steps
from chaos.crashpoints.targets.system import SystemTarget
from chaos.errors import PlanError, Problem

KINDS: Mapping[str, type[BuiltIn]] = {
    kind.name: kind for kind in (SQLiteTarget, KuzuTarget, LadybugTarget, RedisTarget, SystemTarget)
}
"""Every target's class by its name."""


def make(text: str) -> BuiltIn:
    """Return the target of `name`, `name:option=value,...` or `steps:FILE`. Raises PlanError, telling every mistake."""
    name, _, rest = text.partition(":")
    if name == StepsTarget.name and rest:
        return load_steps(rest)
    kind = KINDS.get(name)
    if kind is None:
        raise PlanError([_problem(text, f"target={name!r} must be one of {', '.join(KINDS)}, or steps:FILE")])
    options = {option: values[0] if values else "" for option, values in kind.choices.items()}
    problems = []
    for part in filter(None, rest.split(",")):
        option, _, value = part.partition("=")
        values = kind.choices.get(option)
        if option in kind.texts:
            pass
        elif values is None:
            known = ", ".join((*kind.choices, *kind.texts))
            problems.append(_problem(text, f"option={option!r} must be one of {known}"))
        elif values and value not in values:
            problems.append(_problem(text, f"{option}={value!r} must be one of {', '.join(values)}"))
        elif not values and not (value.isdigit() and 0 < int(value) <= 1000):
            problems.append(_problem(text, f"{option}={value!r} must be a whole number from 1 to 1000"))
        options[option] = value
    if problems:
        raise PlanError(problems)
    return kind(options)


def _problem(text: str, why: str) -> Problem:
    return Problem(text, 0, why, "see `chaos explore --help`", "bad-target")
