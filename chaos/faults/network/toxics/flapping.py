"""Flapping: the way to a store goes down and up again, over and over."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos._seeds import stream
from chaos.errors import HarnessError, Problem
from chaos.faults.network.declared import SeededFault
from chaos.faults.network.toxic import Control, Toxic
from chaos.faults.network.toxics.partition import PartitionToxic
from chaos.faults.network.toxics.refuse import RefuseToxic

WAYS = ("refuse", "discard", "stall")
TIME_S_MIN = 0.01
TIME_S_MAX = 600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Flapping(SeededFault):
    """Take the way to `store` down for about `down`, bring it up for about `up`, and so on until healed.

    Each time is uniform within `jitter` of what is given, drawn from the seed; it begins with down. `how` says what
    down means: "refuse" resets connections and refuses new ones, as Refuse does; "discard" and "stall" let nothing
    through, as Partition does.
    """

    kind: ClassVar[str] = "network.flapping"
    bites: ClassVar[tuple[str, ...]] = (
        "connections_cut",
        "probe_refused",
        "bytes_held",
        "bytes_discarded",
        "connections_stalled",
    )
    # The coordinator goes on committing to the other stores while one cannot be reached.
    stops_work: ClassVar[bool] = False

    _: KW_ONLY
    up: Duration
    down: Duration
    jitter: Duration = 0
    how: str = "refuse"

    def arguments(self) -> dict[str, Any]:
        """Return the store, the times in seconds and the way."""
        return {
            "store": self.store,
            "up_s": seconds(self.up),
            "down_s": seconds(self.down),
            "jitter_s": seconds(self.jitter),
            "how": self.how,
        }

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad time or way, and for a jitter that would make a time zero or less."""
        yield from super().problems()
        times = [
            *self.bad_duration("up", low_s=TIME_S_MIN, high_s=TIME_S_MAX),
            *self.bad_duration("down", low_s=TIME_S_MIN, high_s=TIME_S_MAX),
            *self.bad_duration("jitter", high_s=TIME_S_MAX),
        ]
        yield from times
        if not times and seconds(self.jitter) >= min(seconds(self.up), seconds(self.down)):
            yield self.problem(
                f"jitter={self.jitter!r}) must be < up={self.up!r} and down={self.down!r}",
                "lower jitter",
                "jitter-exceeds-cycle",
            )
        yield from self.bad_choice("how", WAYS)


class FlappingToxic(Toxic):
    """The proxy's part of `Flapping`: a Refuse or a Partition that comes and goes, under ids below this one's.

    Evidence: times_down, and the counters of what came and went, added up.
    """

    kind: ClassVar[str] = "network.flapping"

    def __init__(
        self, *, up_s: float, down_s: float, jitter_s: float = 0.0, how: str = "refuse", seed: int = 0
    ) -> None:
        """Raises HarnessError for an unknown way."""
        super().__init__(seed=seed)
        if how not in WAYS:
            raise HarnessError(f"how={how!r} must be one of {', '.join(WAYS)}")
        self._how = how
        self._up_s, self._down_s, self._jitter_s = up_s, down_s, jitter_s
        self._rng = stream(seed, "cycles")
        self._down: Toxic | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    async def start(self, control: Control) -> None:
        """Go down, and see to it that the cycle goes on."""
        await self._go_down(control)
        if not self._ended:
            self._task = asyncio.get_running_loop().create_task(self._cycle(control))
            self._task.add_done_callback(_report)

    async def stop(self, control: Control) -> None:
        """End the cycle, and go up for good."""
        self.abandon()
        await self._go_up(control)

    def abandon(self) -> None:
        """End the cycle."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def evidence(self) -> dict[str, int]:
        """Return the counters, those of the present time down among them."""
        return _sum(self.counters, self._down.evidence() if self._down is not None else {})

    def draw_s(self, middle_s: float) -> float:
        """Draw how long the next time down or up is."""
        return middle_s + self._rng.uniform(-self._jitter_s, self._jitter_s)

    async def _cycle(self, control: Control) -> None:
        while True:
            await asyncio.sleep(self.draw_s(self._down_s))
            await self._go_up(control)
            await asyncio.sleep(self.draw_s(self._up_s))
            await self._go_down(control)

    async def _go_down(self, control: Control) -> None:
        self.counters["times_down"] += 1
        self._down = RefuseToxic() if self._how == "refuse" else PartitionToxic(mode=self._how)
        await control.inject(self._down_id, self._down)

    async def _go_up(self, control: Control) -> None:
        """Heal what is down. May be called again after it was cancelled or has failed."""
        if self._down is None:
            return
        evidence = await control.heal(self._down_id)
        self._down = None
        self.counters = Counter(_sum(self.counters, evidence))

    @property
    def _down_id(self) -> str:
        return f"{self.fault_id or self.kind}/{self.counters['times_down']}"


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _report(task: asyncio.Task[None]) -> None:
    """Say in the log what has ended a cycle by itself; the heal meets it again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("flapping stands still: %r", error)
