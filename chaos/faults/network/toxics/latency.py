"""Latency: every chunk that crosses the connection is held back for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import HarnessError, Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.draws import DISTRIBUTIONS, Draws
from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.paced import Departure, PacedStage
from chaos.faults.network.toxic import MILLISECONDS_MAX, ApiToxic

DELAY_S_MIN = 0.001
DELAY_S_MAX = 60.0


@dataclass(frozen=True)
class Latency(PathFault):
    """Hold back every chunk by `delay` give or take `jitter`, on each direction that `side` names.

    `distribution` is that of the delays: "uniform" over [delay - jitter, delay + jitter], or "normal" or "pareto"
    with mean `delay` and standard deviation `jitter`, never below 0. `correlation` is how much a delay resembles
    the one before it, from 0 to 1. Order is kept, so a slow chunk holds back those behind it. With side="both" a
    round trip takes two delays longer. `toxicity` is the share of connections that are slow.
    """

    kind: ClassVar[str] = "network.latency"
    bites: ClassVar[tuple[str, ...]] = ("chunks_delayed",)

    delay: Duration
    _: KW_ONLY
    jitter: Duration = 0
    side: str = "both"
    distribution: str = "uniform"
    correlation: float = 0.0
    toxicity: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """Return the store, the times in seconds, how they are drawn, the side and the share of connections."""
        return {
            "store": self.store,
            "delay_s": seconds(self.delay),
            "jitter_s": seconds(self.jitter),
            "side": self.side,
            "distribution": self.distribution,
            "correlation": self.correlation,
            "toxicity": self.toxicity,
        }

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each bad value, and for a jitter that would make a delay negative."""
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
        yield from self.bad_choice("distribution", DISTRIBUTIONS)
        yield from self.bad_number("correlation", 0, 1)

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy's jitter is uniform and independent, and counts whole milliseconds."""
        if self.distribution != "uniform" or self.correlation:
            return "Toxiproxy's jitter is uniform and uncorrelated"
        return self.not_whole("delay", "jitter", unit_s=0.001)


class LatencyToxic(ApiToxic):
    """The proxy's part of `Latency`, and Toxiproxy's `latency`, whose jitter may exceed the delay.

    Evidence: chunks_delayed counts chunks of bytes (not FIN and RST, which wait their turn as well).
    """

    kind: ClassVar[str] = "network.latency"
    api_type: ClassVar[str] = "latency"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {
        "latency": (0, MILLISECONDS_MAX),
        "jitter": (0, MILLISECONDS_MAX),
    }

    def __init__(
        self,
        *,
        delay_s: float,
        jitter_s: float = 0.0,
        side: str = "both",
        distribution: str = "uniform",
        correlation: float = 0.0,
        toxicity: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Every direction of every connection draws from a stream of its own below `seed`."""
        super().__init__(side=side, toxicity=toxicity, seed=seed)
        if distribution not in DISTRIBUTIONS:
            raise HarnessError(f"distribution={distribution!r} must be one of {', '.join(DISTRIBUTIONS)}")
        self.delay_s = delay_s
        self.jitter_s = jitter_s
        self.distribution = distribution
        self.correlation = correlation

    def attributes(self) -> dict[str, int]:
        """Return the delay and the jitter in milliseconds."""
        return {"latency": round(self.delay_s * 1000), "jitter": round(self.jitter_s * 1000)}

    @classmethod
    def settings(cls, attributes: Mapping[str, int]) -> dict[str, Any]:
        """Return the times in seconds."""
        return {"delay_s": attributes["latency"] / 1000, "jitter_s": attributes["jitter"] / 1000}

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Delay the links of the chosen sides."""
        if link.side not in self.sides:
            return None
        return _LatencyStage(self, link, Draws(self.rng(connection.ordinal, link.side), self.correlation))


class _LatencyStage(PacedStage):
    """Holds each item until its arrival plus its delay; none leaves before the one ahead of it."""

    def __init__(self, toxic: LatencyToxic, link: Link, draws: Draws) -> None:
        super().__init__(toxic, link)
        self._latency = toxic
        self._draws = draws

    def feed(self, item: Item) -> None:
        """Queue the item."""
        if isinstance(item, bytes):
            self.toxic.counters["chunks_delayed"] += 1
        super().feed(item)

    def plan(self, arrived_s: float, item: Item, left_bytes: int) -> Departure:
        """Draw the delay of a chunk."""
        return Departure(arrived_s + self.draw_s())

    def draw_s(self) -> float:
        """Draw one chunk's delay in seconds, at least 0."""
        toxic = self._latency
        if not toxic.jitter_s:
            return toxic.delay_s
        return max(0.0, toxic.delay_s + toxic.jitter_s * self._draws.deviation(toxic.distribution))
