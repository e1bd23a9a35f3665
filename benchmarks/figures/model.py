"""What a group of figures gets and gives, and the closed loop that many of them use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos.metrics.quantiles import quantile
from chaos.metrics.recorder import Recorder

MEGABYTE = 1_000_000
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Options:
    """folder: empty, removed afterwards. seconds: length of each load. graph: the engine, "kuzu" or "ladybug".

    minutes: length of the sustained load. seeds: how many runs of each experiment, with the seeds 1, 2, 3 ...
    """

    folder: Path
    seconds: float
    graph: str = "kuzu"
    minutes: float = 10.0
    seeds: int = 2


@dataclass(frozen=True)
class Figure:
    """One measured value and its limit: at most that, or at least."""

    name: str
    value: float
    limit: float
    unit: str
    at_most: bool = True

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    @property
    def cost(self) -> float:
        """The value in a form that is above 0 and larger when worse, for baselines."""
        value = max(self.value, _SMALLEST)
        return value if self.at_most else 1 / value


Group = Callable[[Options], Awaitable[list[Figure]]]
Operation = tuple[str, str, Callable[[Random], Awaitable[object]]]


async def closed_loop(users: int, seconds: float, operations: Sequence[Operation]) -> tuple[Recorder, float]:
    """Let `users` run random `operations` (store, name, coroutine) one after the other; return times, and per second.

    What a user draws depends on its number only. An error ends everything.
    """
    recorder = Recorder()
    end_s = time.perf_counter() + seconds
    began_s = time.perf_counter()

    async def use(number: int) -> None:
        random = Random(number)
        while time.perf_counter() < end_s:
            store, name, run = random.choice(operations)
            with recorder.timing(store, name):
                await run(random)

    async with asyncio.TaskGroup() as group:
        for number in range(users):
            group.create_task(use(number))
    count = sum(len(series.took_s) for series in recorder.series.values())
    return recorder, count / (time.perf_counter() - began_s)


def of(recorder: Recorder, store: str, name: str, share: float, limit_ms: float, users: int) -> Figure:
    """Return the quantile of an operation in milliseconds as a figure."""
    value_ms = quantile(sorted(recorder.of(store, name).took_s), share) * 1000
    return Figure(f"{store} {name} p{share * 100:g}, {users} connections", value_ms, limit_ms, "ms")
