"""What every declared value shares: where it was written, how times read, how mistakes are told.

A declared value (a fault, a rule, a workload, an experiment) never raises for a bad argument. It keeps what
it was given, and `problems()` lists every mistake with its place, so that a user sees all of them at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chaos.errors import Problem

Duration = str | int | float
"""A time: seconds as a number, or text such as "250ms", "1.5s", "2m", "40us"."""

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h)\s*")
_PACKAGE = str(Path(__file__).resolve().parent) + os.sep


def seconds(value: Duration) -> float:
    """Read `value` as seconds, a finite number of at least 0.

    Raises ValueError, with the accepted forms, for anything else.
    """
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match:
            return float(match[1]) * _UNITS_S[match[2]]
    elif not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value < float("inf"):
        return float(value)
    raise ValueError(f"{value!r} is not a time")


@dataclass(frozen=True)
class Where:
    """The place in a user's file where a value was declared; line 0 when it is not known."""

    file: str
    line: int


def _caller() -> Where:
    """Return the nearest frame that is not part of this package (nor of a dataclass's generated code)."""
    frame = sys._getframe(1)  # noqa: SLF001  # inspect.stack reads source files, a thousand times slower
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_PACKAGE, "<")):
            return Where(name, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]  # None ends the walk
    return Where("<unknown>", 0)


@dataclass(frozen=True)
class Declared:
    """Base of declared values: a frozen dataclass that remembers the line it was written on."""

    where: Where = field(default_factory=_caller, init=False, repr=False, compare=False)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in this value and in the values it holds. Pure: nothing is started."""
        yield from ()

    def problem(self, text: str, remedy: str, slug: str) -> Problem:
        """Return a `Problem` placed at this value; `text` starts with the kind and name=value."""
        return Problem(self.where.file, self.where.line, f"{type(self).__name__}({text}", remedy, slug)

    def bad_duration(self, name: str, *, low_s: float = 0.0, high_s: float = 3600.0) -> Iterator[Problem]:
        """Yield a problem unless attribute `name` is a time within [low_s, high_s] seconds."""
        value = getattr(self, name)
        try:
            amount = seconds(value)
        except ValueError:
            yield self.problem(
                f"{name}={value!r}) must be a time",
                'write seconds as a number, or text such as "250ms" or "2s"',
                "not-a-time",
            )
            return
        if not low_s <= amount <= high_s:
            yield self.problem(
                f"{name}={value!r}) must be between {low_s:g}s and {high_s:g}s", f"change {name}", "out-of-range"
            )

    def bad_choice(self, name: str, choices: tuple[str, ...], slug: str = "not-a-choice") -> Iterator[Problem]:
        """Yield a problem unless attribute `name` is one of `choices`."""
        value = getattr(self, name)
        if value not in choices:
            yield self.problem(f"{name}={value!r}) must be one of {', '.join(choices)}", f"change {name}", slug)

    def bad_number(self, name: str, low: float, high: float) -> Iterator[Problem]:
        """Yield a problem unless attribute `name` is a number within [low, high]."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            yield self.problem(
                f"{name}={value!r}) must be between {low:g} and {high:g}", f"change {name}", "out-of-range"
            )

    def bad_count(self, name: str, low: int, high: int) -> Iterator[Problem]:
        """Yield a problem unless attribute `name` is a whole number within [low, high]."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            yield self.problem(
                f"{name}={value!r}) must be a whole number between {low} and {high}", f"change {name}", "out-of-range"
            )

    def bad_flag(self, name: str) -> Iterator[Problem]:
        """Yield a problem unless attribute `name` is True or False."""
        value = getattr(self, name)
        if not isinstance(value, bool):
            yield self.problem(f"{name}={value!r}) must be True or False", f"change {name}", "not-a-choice")
