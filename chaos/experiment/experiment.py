"""The experiment: one value that says what is tried, on what, what must hold, and how it is judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos._declare import Declared, Duration
from chaos.errors import Problem
from chaos.experiment.names import naming_problems
from chaos.experiment.probes import Commits, PingAll, Probe
from chaos.experiment.schedule import Rule
from chaos.experiment.systems import Redo, SystemSpec


@dataclass(frozen=True, kw_only=True)
class Recovery(Declared):
    """How fast a system must be well again: `budget` from the heal, then agreement must hold for `hold`."""

    budget: Duration = "10s"
    hold: Duration = "1s"

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a budget outside 100 ms to 10 min, and for a hold above 10 min."""
        yield from self.bad_duration("budget", low_s=0.1, high_s=600.0)
        yield from self.bad_duration("hold", high_s=600.0)


@dataclass(frozen=True, kw_only=True)
class Guards(Declared):
    """How many acknowledged transactions are demanded before, during and after each fault.

    With fewer, the run is inconclusive: a fault that no work met proves nothing. A fault that stops all work
    is excused from `during`.
    """

    before: int = 1
    during: int = 1
    after: int = 1

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a count outside 0 to 100000."""
        for name in ("before", "during", "after"):
            yield from self.bad_count(name, 0, 100_000)


@dataclass(frozen=True, kw_only=True)
class Limits(Declared):
    """What a run may cost: `wall` is the time from its start to its end; past it the run is stopped and healed.

    overtime: how much longer than its own time the load goes on for rules whose phase has not come yet, which takes
    longer on a slow machine; None: as long again.
    """

    wall: Duration = "60s"
    overtime: Duration | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a wall time outside 1 s to 1 h, and for an overtime above 1 h."""
        yield from self.bad_duration("wall", low_s=1.0)
        if self.overtime is not None:
            yield from self.bad_duration("overtime", low_s=0.1)


@dataclass(frozen=True, kw_only=True)
class KnownFailure(Declared):
    """The expectation that exactly the check `check` (or all of several) fails, and why.

    `also` names checks that may fail with it, because they follow from it on some seeds only. The run then
    exits 0 when this and nothing else is broken, and 1 when it passes or fails otherwise.
    """

    check: str | Sequence[str]
    reason: str
    also: Sequence[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The checks that must fail."""
        return (self.check,) if isinstance(self.check, str) else tuple(self.check)

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an empty reason: without it nobody can tell when to drop the expectation."""
        for name in ("check", "also"):
            value = getattr(self, name)
            if (name, type(value)) != ("check", str) and not isinstance(value, list | tuple):
                yield self.problem(f"{name}={value!r}) must be names of checks", "write a tuple of names", "wrong-kind")
        if not isinstance(self.reason, str) or not self.reason.strip():
            yield self.problem(
                f"reason={self.reason!r}) must be a sentence", "say why the check is known to fail", "no-reason"
            )


def _standard_checks() -> tuple[Any, ...]:
    from chaos.checkers import standard

    return tuple(standard())


@dataclass(frozen=True, kw_only=True)
class Experiment(Declared):
    """One experiment, as declared in a file's `EXPERIMENT` (or one of `EXPERIMENTS`).

    id: lowercase words joined by dashes, unique among the files given together; it names the run folder.
    hypothesis: one sentence that the run can refute.
    stores: SQLite, Redis and Graph, each once. workload: what the clients do, and for how long.
    steady_state: probes that must hold before the first fault and after the last heal.
    schedule: rules of when, which fault, until when. checks: what is judged; all standard ones by default.
    expect: None when everything must hold, else the `KnownFailure` that must be seen.
    Nothing here raises for a bad value; `chaos validate` tells every mistake at once.
    """

    id: str
    hypothesis: str
    stores: Sequence[Any]
    workload: Any
    tags: Sequence[str] = ()
    system: SystemSpec = field(default_factory=Redo)
    steady_state: Sequence[Probe] = field(default_factory=lambda: (PingAll(), Commits()))
    schedule: Sequence[Rule] = ()
    recovery: Recovery = field(default_factory=Recovery)
    checks: Sequence[Any] = field(default_factory=_standard_checks)
    guards: Guards = field(default_factory=Guards)
    limits: Limits = field(default_factory=Limits)
    expect: KnownFailure | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield the mistakes in the experiment's own fields; `validate` adds those between values."""
        yield from naming_problems(self)
