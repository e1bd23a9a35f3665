"""What must hold before the first fault and after the last heal: declared here, asked by the runner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chaos._declare import Declared, Duration, seconds
from chaos.errors import Problem


@dataclass(frozen=True)
class Probe(Declared):
    """Base of the parts of a steady state."""

    within: Duration = "5s"

    def problems(self) -> Iterator[Problem]:
        """Yield a problem when `within` is not a time between 1 ms and 60 s."""
        yield from self.bad_duration("within", low_s=0.001, high_s=60.0)

    def arguments(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values, times in seconds."""
        return {"within_s": seconds(self.within)}


@dataclass(frozen=True)
class PingAll(Probe):
    """Every store answers a trivial request; asked again and again until that, for `within` at most."""


@dataclass(frozen=True, kw_only=True)
class Commits(Probe):
    """At least `at_least` transactions are acknowledged within `within`."""

    at_least: int = 3

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a count outside 1 to 10000, and for a bad `within`."""
        yield from super().problems()
        yield from self.bad_count("at_least", 1, 10_000)

    def arguments(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values, times in seconds."""
        return {"at_least": self.at_least, **super().arguments()}
