"""A finding: a defect that a store or a client is known to have, as an experiment of its own.

It is the least that shows the defect: a few steps with the store's own interface, what they are put through, and what
is then seen. It runs like every experiment, and its expectation is strict both ways: the versions named must show
exactly this defect, and every other version must not show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from chaos._declare import Declared, Duration, seconds
from chaos.errors import PlanError, Problem
from chaos.experiment.names import naming_problems
from chaos.experiment.places import refine, selector
from chaos.experiment.subjects import SUBJECTS
from chaos.experiment.trials import Faulted, Trial, Undisturbed
from chaos.experiment.venues import PROVIDERS, provider

OUTCOMES = (
    "crashes",
    "hangs",
    "refuses to open",
    "corrupted",
    "partial transaction",
    "acknowledged data lost",
    "wrong answer",
)
"""What a defect may show; the words are explained in docs/explanation/crash-states.md."""


class Teller(Protocol):
    """What the steps say while they go on; under the file shim it is in the order of the file operations.

    The names of transactions have no blanks.
    """

    def begin(self, name: str) -> None:
        """Say that the transaction may now take effect."""

    def acknowledged(self, name: str) -> None:
        """Say that it was committed: the store has said so."""

    def aborted(self, name: str) -> None:
        """Say that it did not happen: the store has said so."""

    def phase(self, name: str) -> None:
        """Say what the steps do from here on."""


Steps = Callable[[Path, Teller], None]
"""Works in an empty folder, in a process of its own. An AssertionError is a wrong answer of the store."""

Check = Callable[[Path], Mapping[str, bool]]
"""Opens what is in the folder, and returns the transactions that are there, each with whether it is whole.

An AssertionError means that the data are corrupted, any other exception that the store refused to open them.
"""


@dataclass(frozen=True, kw_only=True)
class KnownDefect(Declared):
    """The expectation: the outcome that the `versions` show, all of them when there are several, and why.

    `says` is a part of what the store says, or of what is wrong, in at least one place where the outcome is seen.
    `also` names outcomes that may be seen beside it.
    """

    outcome: str | Sequence[str]
    versions: Sequence[str]
    reason: str
    says: str = ""
    also: Sequence[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The outcomes that must be seen."""
        return (self.outcome,) if isinstance(self.outcome, str) else tuple(self.outcome)

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an outcome that is none, for no version, and for an empty reason."""
        for attribute in ("outcome", "also", "versions"):
            value = getattr(self, attribute)
            texts = (value,) if (attribute, type(value)) == ("outcome", str) else value
            if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
                yield self.problem(f"{attribute}={value!r}) must be a tuple of texts", "write a tuple", "wrong-kind")
                continue
            unknown = [text for text in texts if attribute != "versions" and text not in OUTCOMES]
            if unknown:
                words = f"{attribute}={value!r}) must be among {', '.join(OUTCOMES)}"
                yield self.problem(words, "use one of these words", "not-a-choice")
            if not texts and attribute != "also":
                yield self.problem(f"{attribute}={value!r}) must name at least one", "name it", "no-name")
        if not isinstance(self.reason, str) or not self.reason.strip():
            yield self.problem(f"reason={self.reason!r}) must be a sentence", "say why it is so", "no-reason")


@dataclass(frozen=True, kw_only=True)
class Finding(Declared):
    """One finding, as declared in a file's `EXPERIMENT` (or one of `EXPERIMENTS`).

    id, hypothesis, tags: as of an `Experiment`; the hypothesis says what ought to hold.
    subject: whose version decides: kuzu, ladybug, redis-py or server (the Redis-compatible server that is used).
    steps: what is done. trial: what they are put through; nothing by default. check: how the data are looked at
    afterwards; not of steps that are undisturbed, which look themselves. limit: how long the steps, and each look, may
    take before they count as hanging. Looks have 6 GB of address space. expect: what is known.
    """

    id: str
    hypothesis: str
    subject: str
    steps: Steps
    expect: KnownDefect
    trial: Trial = field(default_factory=Undisturbed)
    check: Check | None = None
    tags: Sequence[str] = ()
    limit: Duration = "20s"

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the finding and in the values it holds."""
        yield from naming_problems(self)
        yield from self.bad_choice("subject", tuple(SUBJECTS))
        yield from self.bad_duration("limit", low_s=0.5, high_s=120.0)
        for name, kind in (("expect", KnownDefect), ("trial", Trial), ("tags", list | tuple)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                yield self.problem(f"{name}={value!r}) is of another kind", f"see the guide for {name}", "wrong-kind")
            elif isinstance(value, Declared):
                yield from value.problems()
        yield from self._bad_functions()

    def refused_by(self, name: str) -> Iterator[Problem]:
        """Yield why the provider `name` cannot do this; steps start what they need themselves."""
        if name != provider():
            remedy = f"run it with {PROVIDERS[provider()]}"
            yield self.problem(f"id={self.id!r}) takes place in processes of this machine", remedy, "provider-cannot")

    def _bad_functions(self) -> Iterator[Problem]:
        if not callable(self.steps):
            yield self.problem(f"steps={self.steps!r}) must be a function", "write steps(folder, tell)", "wrong-kind")
        if not isinstance(self.trial, Trial):
            return
        alone = isinstance(self.trial, Undisturbed)
        if alone and self.check is not None:
            text = f"check={self.check!r}) must be None when the trial is undisturbed"
            yield self.problem(text, "look in the steps, with assert", "wrong-kind")
        elif not alone and not callable(self.check):
            yield self.problem(f"check={self.check!r}) must be a function", "write check(folder)", "wrong-kind")
        if isinstance(self.trial, Faulted) and getattr(self.trial.fault, "store", self.subject) != self.subject:
            text = f"store={self.trial.fault.store!r}) must be the finding's subject, {self.subject}"
            yield self.trial.fault.problem(text, "name the subject", "unknown-store")


@dataclass(frozen=True)
class FindingPlan:
    """What a run of a finding executes; the seed decides which states are looked at, and the random ones."""

    experiment: Finding
    seed: int
    source: Path
    alone: bool = True

    @property
    def selector(self) -> str:
        """What to write on a command line for this finding and no other: "path.py" or "path.py::id"."""
        return selector(self.source, self.experiment.id, alone=self.alone)

    def to_json(self) -> dict[str, Any]:
        """Return all that a reader needs, and all that `chaos check` needs to judge the run again."""
        finding, expect = self.experiment, self.experiment.expect
        return {
            "schema": 1,
            "experiment": {
                "id": finding.id,
                "hypothesis": finding.hypothesis,
                "tags": list(finding.tags),
                "file": str(self.source),
                "line": finding.where.line,
            },
            "seed": self.seed,
            "subject": finding.subject,
            "trial": {"kind": finding.trial.kind, **finding.trial.arguments()},
            "limit_s": seconds(finding.limit),
            "rules": [],
            "expect": {
                "outcome": list(expect.names),
                "says": expect.says,
                "also": list(expect.also),
                "versions": list(expect.versions),
                "reason": expect.reason,
            },
        }


def resolve_finding(finding: Finding, seed: int, source: Path, *, alone: bool = True) -> FindingPlan:
    """Return the plan of `finding` for `seed`. Raises PlanError, with every problem, when it is not valid."""
    problems = refine(finding.problems())
    if problems:
        raise PlanError(problems)
    return FindingPlan(finding, seed, source.resolve(), alone)


def refuse_elsewhere(finding: Finding, *, backend: str, proxy: str, graph: str | None) -> None:
    """Raise PlanError when a run is asked for in a place or with an engine that a finding cannot choose."""
    problems = list(finding.refused_by(provider(backend, proxy)))
    if graph is not None:
        text = f"subject={finding.subject!r}) is part of the finding, and --graph {graph} another"
        problems.append(finding.problem(text, "leave --graph out", "provider-cannot"))
    if problems:
        raise PlanError(refine(problems))
