"""What goes into a run and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chaos.checkers.model import Verdict
from chaos.experiment.finding import FindingPlan
from chaos.experiment.plan import Plan
from chaos.experiment.repeat import repeat_line
from chaos.experiment.venues import DEFAULT_BACKEND, DEFAULT_FILES, DEFAULT_PROXY


@dataclass(frozen=True)
class RunOptions:
    """How to run: `out` is the folder of run folders; `graph` overrides the experiment's engine.

    `backend`, `proxy` and `files` are names of `chaos.experiment.venues`. `wire` asks for the wire
    journal even when no rule reads frames.

    `keep` keeps the stores' files of a run that passed, too. `argv` is what the user typed, for run.json.
    """

    seed: int
    out: Path
    backend: str = DEFAULT_BACKEND
    proxy: str = DEFAULT_PROXY
    files: str = DEFAULT_FILES
    graph: str | None = None
    keep: bool = False
    wire: bool = False
    argv: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    verdict: pass, fail, inconclusive, not_started, not_healed, harness_failed or interrupted. folder: None when
    none could be made. message: why it did not start, or what failed. report: the text of report.txt, if any.
    repeat: the command that repeats the run. signal: the number of one that came while it went on; no run follows it.
    """

    experiment_id: str
    seed: int
    verdict: str
    exit_code: int
    folder: Path | None
    verdicts: tuple[Verdict, ...]
    message: str | None
    repeat: str
    report: str | None = None
    signal: int | None = None


@dataclass(frozen=True)
class Snapshot:
    """What a progress display shows. rate: acknowledged transactions a second, lately; seconds_left: an estimate."""

    phase: str
    rate: float
    acknowledged: int
    open_faults: tuple[str, ...]
    seconds_left: float


class Progress(Protocol):
    """Somebody who watches a run."""

    def update(self, snapshot: Snapshot) -> None:
        """Take note of where the run is; called several times a second, must not block."""


def repeat_command(plan: Plan | FindingPlan, options: RunOptions) -> str:
    """Return the command that repeats this run: same file, same seed, same place, same engine."""
    return repeat_line(plan, backend=options.backend, proxy=options.proxy, files=options.files, graph=options.graph)
