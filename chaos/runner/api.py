"""The door of the runner: options in, a result out, signals handled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from chaos.checkers.model import Verdict
from chaos.experiment.plan import Plan
from chaos.experiment.repeat import repeat_line


@dataclass(frozen=True)
class RunOptions:
    """How to run: `out` is the folder of run folders; `graph` overrides the experiment's engine.

    `keep` keeps copies of the stores of a run that passed, too. `argv` is what the user typed, for run.json.
    """

    seed: int
    out: Path
    backend: str = "embedded"
    graph: str | None = None
    keep: bool = False
    argv: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    verdict: pass, fail, inconclusive, not_started, not_healed, harness_failed or interrupted. folder: None when
    none could be made. message: why it did not start, or what failed. report: the text of report.txt, if any.
    repeat: the command that repeats the run.
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


def repeat_command(plan: Plan, options: RunOptions) -> str:
    """Return the command that repeats this run: same file, same seed, same engine."""
    return repeat_line(plan, backend=options.backend, graph=options.graph)


@contextlib.contextmanager
def _cancelled_by_signals(task: asyncio.Task[RunResult], received: list[int]) -> Iterator[None]:
    """Turn the first of SIGINT, SIGTERM and SIGHUP into a cancellation of `task`.

    A second one is only counted: cleaning up has begun. A third one ends this process at once; the guardian
    cleans up then.
    """
    loop = asyncio.get_running_loop()

    def _on_signal(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()
        elif len(received) >= 3:  # said in the docstring
            os._exit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, _on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def run(plan: Plan, options: RunOptions, progress: Progress | None = None) -> RunResult:
    """Run one experiment. Everything that was started is gone, and every fault healed, when this returns.

    Never raises for what the system or the stores do, nor for a missing environment: that is in the result.
    Cancellation: heals, ends everything, completes the run folder, then raises CancelledError.
    """
    from chaos.runner.run import Run

    return await Run(plan, options, progress).execute()


async def _run_with_signals(plan: Plan, options: RunOptions, progress: Progress | None) -> RunResult:
    from chaos.runner.run import Run

    received: list[int] = []
    one = Run(plan, options, progress)
    task = asyncio.ensure_future(one.execute())
    with _cancelled_by_signals(task, received):
        try:
            result = await task
            # A signal that came while the run was being judged: the verdict stands, and the series ends.
            return replace(result, exit_code=128 + received[0]) if received else result
        except asyncio.CancelledError:
            if not received:
                raise
            return one.interrupted(received[0])


def run_blocking(plan: Plan, options: RunOptions, progress: Progress | None = None) -> RunResult:
    """Run one experiment from code that is not asynchronous, in the main thread.

    SIGINT, SIGTERM and SIGHUP end it early: healed, children gone, folder complete up to then, verdict
    "interrupted" and exit code 128 + the signal's number.
    """
    return asyncio.run(_run_with_signals(plan, options, progress))
