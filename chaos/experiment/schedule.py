"""Rules of a schedule: when, which fault, until when.

    when.at("2s").do(faults.Partition("redis")).heal(after="2s")
    when.phase("sqlite.committed", nth=3).do(faults.Disconnect("redis"))
    when.random(between=("5s", "7s")).do(faults.Latency("redis", "80ms")).heal(at=when.phase("acknowledged", nth=200))

Times count from the start of the load. A fault that lasts and has no `.heal(...)` holds until the load ends;
`.never()` says the same on purpose. Either way the harness heals it then, before it judges anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chaos._declare import Declared, Duration, seconds
from chaos.errors import Problem
from chaos.faults.base import Fault


@dataclass(frozen=True)
class Trigger(Declared):
    """Base of the moments at which a fault may begin. `word` is how it is written after `when.`."""

    word: ClassVar[str]

    def do(self, *faults: Fault) -> Rule:
        """Return the rule that injects `faults` together at this moment, in the order given."""
        return Rule(self, faults)

    def problem(self, text: str, remedy: str, slug: str) -> Problem:
        """Return a `Problem` placed here, written the way the user wrote it."""
        return Problem(self.where.file, self.where.line, f"when.{self.word}({text}", remedy, slug)


@dataclass(frozen=True)
class At(Trigger):
    """A time after the start of the load."""

    word: ClassVar[str] = "at"
    time: Duration

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless `time` is a time."""
        yield from self.bad_duration("time")


@dataclass(frozen=True)
class Phase(Trigger):
    """The nth time, 1-based from the start of the load, that any transaction reaches the phase `name`."""

    word: ClassVar[str] = "phase"
    name: str
    nth: int = 1

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a name that is no text, and for nth below 1 or not a whole number."""
        if not isinstance(self.name, str) or not self.name:
            yield self.problem(
                f"name={self.name!r}) must be the name of a phase", 'write for example "acknowledged"', "no-name"
            )
        if isinstance(self.nth, bool) or not isinstance(self.nth, int) or self.nth < 1:
            yield self.problem(
                f"nth={self.nth!r}) must be a whole number of at least 1", "count occurrences from 1", "bad-nth"
            )


@dataclass(frozen=True)
class Next(Trigger):
    """The next time that any transaction reaches the phase `name`, in the turn of the schedule.

    As a beginning: every rule written before has begun; with `after`, they are over too, and so many transactions were
    acknowledged since with every store caught up. As an end: so many were since the fault itself began.
    """

    word: ClassVar[str] = "next"
    name: str
    after: int = 0

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a name that is no text, and for after below 0 or not a whole number."""
        if not isinstance(self.name, str) or not self.name:
            yield self.problem(
                f"name={self.name!r}) must be the name of a phase", 'write for example "acknowledged"', "no-name"
            )
        if isinstance(self.after, bool) or not isinstance(self.after, int) or self.after < 0:
            yield self.problem(
                f"after={self.after!r}) must be a whole number of at least 0", "count transactions from 0", "bad-nth"
            )


@dataclass(frozen=True)
class Random(Trigger):
    """A moment drawn from the run's seed, uniformly within `between`."""

    word: ClassVar[str] = "random"
    between: tuple[Duration, Duration]

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless `between` is a pair of times in rising order."""
        try:
            low, high = self.between
            rising = seconds(low) <= seconds(high)
        except (TypeError, ValueError):
            rising = False
        if not rising:
            yield self.problem(
                f"between={self.between!r}) must be two times, the earlier one first",
                'write for example between=("5s", "7s")',
                "bad-window",
            )


@dataclass(frozen=True)
class Heal(Declared):
    """When a lasting fault ends: after a delay from its injection, or when a phase is reached; one of the two."""

    after: Duration | None = None
    at: Phase | Next | None = None

    def problem(self, text: str, remedy: str, slug: str) -> Problem:
        """Return a `Problem` placed here, written the way the user wrote it."""
        return Problem(self.where.file, self.where.line, f"heal({text}", remedy, slug)

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless exactly one of the two is given and good."""
        if (self.after is None) == (self.at is None):
            yield self.problem(
                f"after={self.after!r}, at={self.at!r}) must have exactly one of the two",
                "give after=... or at=when.phase(...)",
                "heal-needs-one",
            )
        elif self.after is not None:
            yield from self.bad_duration("after")
        elif isinstance(self.at, Phase | Next):
            yield from self.at.problems()
        else:
            yield self.problem(f"at={self.at!r}) must be a phase", "write at=when.phase(...)", "heal-needs-phase")


@dataclass(frozen=True)
class Never(Declared):
    """The fault holds until the load ends; the harness heals it then."""


Until = Heal | Never


@dataclass(frozen=True)
class Rule(Declared):
    """One line of a schedule: `faults` begin together at `trigger` and end together at `until`.

    `untils` holds every end that was written, so that a second one is told instead of silently winning.
    """

    trigger: Trigger
    faults: tuple[Fault, ...]
    untils: tuple[Until, ...] = ()

    def heal(self, *, after: Duration | None = None, at: Phase | Next | None = None) -> Rule:
        """Return the rule with its end: `after` a time from the injection, or `at` a phase."""
        return Rule(self.trigger, self.faults, (*self.untils, Heal(after, at)))

    def never(self) -> Rule:
        """Return the rule with the statement that nothing heals it before the load ends."""
        return Rule(self.trigger, self.faults, (*self.untils, Never()))

    @property
    def until(self) -> Until | None:
        """The end that was written; None when there is none."""
        return self.untils[-1] if self.untils else None

    def problem(self, text: str, remedy: str, slug: str) -> Problem:
        """Return a `Problem` placed here, written the way the user wrote it."""
        return Problem(self.where.file, self.where.line, f"do({text}", remedy, slug)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the trigger, the faults and the end."""
        yield from self.trigger.problems()
        if not self.faults:
            yield self.problem(") must name at least one fault", "write do(faults.Partition(...))", "no-fault")
        for fault in self.faults:
            if isinstance(fault, Fault):
                yield from fault.problems()
            else:
                yield self.problem(f"{fault!r}) must be a fault", "use a value of chaos.faults", "not-a-fault")
        if len(self.untils) > 1:
            yield self.problem(
                f"...) must have one end, not {len(self.untils)}", "keep one of .heal(...) and .never()", "two-ends"
            )
        for until in self.untils:
            yield from until.problems()
