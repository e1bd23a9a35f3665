"""How a run ends: one value for all endings, and work that a cancellation must not cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from chaos.errors import HarnessError
from chaos.exit_codes import ExitCode
from chaos.runner.judge import Judged


@dataclass(frozen=True)
class Ending:
    """What became of a run before it is written down. `judged` is None when there was nothing to judge."""

    verdict: str
    exit_code: int
    message: str
    judged: Judged | None = None


def not_started(error: Exception) -> Ending:
    """Return the ending of a run that could not begin."""
    return Ending("not_started", int(ExitCode.NOT_STARTED), str(error))


def harness_failed(error: BaseException) -> Ending:
    """Return the ending of a run in which the harness itself failed: no finding on a store."""
    text = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
    return Ending("harness_failed", int(ExitCode.HARNESS), text)


def not_healed(left: list[str]) -> Ending:
    """Return the ending of a run that left something behind."""
    return Ending("not_healed", int(ExitCode.NOT_HEALED), f"left behind: {'; '.join(left)}")


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end even when this task is cancelled meanwhile, and raise the cancellation only then.

    A shield alone is not enough: it returns at once when it is cancelled, while the work goes on behind it.
    What `work` raises is raised, unless there was a cancellation.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as forgotten
        raise cancelled
    await task
