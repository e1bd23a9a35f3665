"""Latency: every chunk that crosses the connection is held back for a while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from random import Random
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos._seeds import stream
from chaos.errors import Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import NetworkFault
from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.toxic import SIDES, Toxic, directions

DELAY_S_MIN = 0.001
DELAY_S_MAX = 60.0


@dataclass(frozen=True)
class Latency(NetworkFault):
    """Hold back every chunk by `delay` plus or minus `jitter`, on each direction that `side` names.

    The delay of a chunk is uniform over [delay - jitter, delay + jitter]. Order is kept, so a slow chunk holds
    back those behind it. With side="both" a round trip takes two delays longer. Timers round up to about 1 ms.
    """

    kind: ClassVar[str] = "network.latency"
    bites: ClassVar[tuple[str, ...]] = ("chunks_delayed",)

    delay: Duration
    _: KW_ONLY
    jitter: Duration = 0
    side: str = "both"

    def arguments(self) -> dict[str, Any]:
        """Return the store, the times in seconds and the side."""
        return {
            "store": self.store,
            "delay_s": seconds(self.delay),
            "jitter_s": seconds(self.jitter),
            "side": self.side,
        }

    def toxic_arguments(self, rng: Random) -> dict[str, Any]:
        """Add the root of the jitter's streams, drawn from `rng`."""
        return {**super().toxic_arguments(rng), "seed": rng.getrandbits(53)}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad time or side, and for a jitter that would make a delay negative."""
        yield from super().problems()
        times = [
            *self.bad_duration("delay", low_s=DELAY_S_MIN, high_s=DELAY_S_MAX),
            *self.bad_duration("jitter", high_s=DELAY_S_MAX),
        ]
        yield from times
        if not times and seconds(self.jitter) > seconds(self.delay):
            yield self.problem(
                f"jitter={self.jitter!r}) must be <= delay={self.delay!r}",
                "lower jitter or raise delay",
                "jitter-exceeds-latency",
            )
        yield from self.bad_choice("side", tuple(SIDES))


class LatencyToxic(Toxic):
    """The proxy's part of `Latency`.

    Evidence: chunks_delayed counts chunks of bytes (not FIN and RST, which wait their turn as well).
    """

    kind: ClassVar[str] = "network.latency"

    def __init__(self, *, delay_s: float, jitter_s: float = 0.0, side: str = "both", seed: int = 0) -> None:
        """Every direction of every connection draws from a stream of its own below `seed`."""
        super().__init__()
        self._delay_s = delay_s
        self._jitter_s = jitter_s
        self._sides = directions(side)
        self._seed = seed

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Delay the links of the chosen sides."""
        if link.side not in self._sides:
            return None
        return _LatencyStage(self, link, stream(self._seed, connection.ordinal, link.side))

    def draw_s(self, rng: Random) -> float:
        """Draw one chunk's delay in seconds, at least 0."""
        if not self._jitter_s:
            return self._delay_s
        return max(0.0, rng.uniform(self._delay_s - self._jitter_s, self._delay_s + self._jitter_s))


class _LatencyStage(Stage):
    """A queue of items with the earliest time at which each may leave; none leaves before the one ahead of it."""

    def __init__(self, toxic: LatencyToxic, link: Link, rng: Random) -> None:
        super().__init__(toxic, link)
        self._latency = toxic
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, Item]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, item: Item) -> None:
        """Queue the item until its arrival time plus its delay."""
        due_s = self._loop.time() + self._latency.draw_s(self._rng)
        self._queue.append((due_s, item))
        if isinstance(item, bytes):
            self.toxic.counters["chunks_delayed"] += 1
            self.link.hold(len(item))
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._wake)

    def expedite(self) -> None:
        """Pass everything on now."""
        self._pass_until(float("inf"))

    def release(self) -> None:
        """Pass everything on now; nothing is dropped by a heal."""
        self.expedite()
        self._stop_timer()

    def drop(self) -> None:
        """Forget what is queued."""
        self._queue.clear()
        self._stop_timer()

    def _wake(self) -> None:
        self._timer = None
        self._pass_until(self._loop.time())
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._wake)

    def _pass_until(self, now_s: float) -> None:
        while self._queue and self._queue[0][0] <= now_s:
            _, item = self._queue.popleft()
            if isinstance(item, bytes):
                self.link.let_go(len(item))
            self.forward(item)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
