"""The door of the runner: options in, a result out, signals handled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType

from chaos.exit_codes import ExitCode
from chaos.experiment.finding import FindingPlan
from chaos.experiment.plan import Plan
from chaos.runner.result import Progress, RunOptions, RunResult, Snapshot, repeat_command
from chaos.runner.run import Run

__all__ = ["Progress", "RunOptions", "RunResult", "Snapshot", "repeat_command", "run", "run_blocking"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _cancelled_by_signals(task: asyncio.Task[RunResult], received: list[int]) -> Iterator[None]:
    """Turn the first of SIGINT, SIGTERM and SIGHUP into a cancellation of `task`.

    A second one is only counted: cleaning up has begun. A third one ends this process at once; the guardian
    cleans up then. Every signal until the end of the block is in `received`: a handler of the loop would not do,
    since one that comes while the task takes its last step is never called (the loop drops it with the handler).
    """
    loop = asyncio.get_running_loop()

    def _on_signal(number: int, _: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            loop.call_soon_threadsafe(task.cancel)
        elif len(received) >= 3:  # said in the docstring
            os._exit(128 + number)

    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def run(plan: Plan, options: RunOptions, progress: Progress | None = None) -> RunResult:
    """Run one experiment. Everything that was started is gone, and every fault healed, when this returns.

    Never raises for what the system or the stores do, nor for a missing environment: that is in the result.
    Cancellation: heals, ends everything, completes the run folder, then raises CancelledError.
    """
    return await Run(plan, options, progress).execute()


async def _run_with_signals(plan: Plan, options: RunOptions, progress: Progress | None) -> RunResult:
    received: list[int] = []
    one = Run(plan, options, progress)
    task = asyncio.ensure_future(one.execute())
    with _cancelled_by_signals(task, received):
        try:
            result = await task
        except asyncio.CancelledError:
            if not received:
                raise
            return replace(one.interrupted(received[0]), signal=received[0])
    if not received:
        return result
    # It came while the run was being judged: the verdict stands, and the series ends. "Not healed" stays.
    not_healed = result.exit_code == ExitCode.NOT_HEALED
    return replace(result, exit_code=result.exit_code if not_healed else 128 + received[0], signal=received[0])


def run_blocking(plan: Plan | FindingPlan, options: RunOptions, progress: Progress | None = None) -> RunResult:
    """Run one experiment or finding from code that is not asynchronous, in the main thread.

    SIGINT, SIGTERM and SIGHUP end it early: healed, children gone, folder complete up to then, verdict
    "interrupted" and exit code 128 + the signal's number.
    """
    if isinstance(plan, FindingPlan):
        from chaos.runner.finding import run_finding  # it loads the explorer, which no other run needs

        return run_finding(plan, options)
    return asyncio.run(_run_with_signals(plan, options, progress))
