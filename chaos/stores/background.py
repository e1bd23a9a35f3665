"""Work that must come to its end whether or not somebody still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def _look(task: asyncio.Task[Any]) -> None:
    """Take the outcome of a task that nobody waits for, so that no warning tells of it."""
    if not task.cancelled():
        task.exception()


class Background:
    """Keeps the tasks it started until they are done."""

    def __init__(self) -> None:
        """Nothing runs."""
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run `work` in a task; an error that nobody waits for is dropped."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_look)
        return task

    async def follow(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await `work` in a task that goes on when the caller is cancelled."""
        return await asyncio.shield(self.start(work))

    async def wait_idle(self) -> None:
        """Wait until nothing that was started here runs any more. Safe to cancel."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
