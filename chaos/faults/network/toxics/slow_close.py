"""SlowClose: the end of a connection takes its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.paced import Departure, PacedStage
from chaos.faults.network.toxic import MILLISECONDS_MAX, ApiToxic

DELAY_S_MIN = 0.001
DELAY_S_MAX = 3600.0


@dataclass(frozen=True)
class SlowClose(PathFault):
    """Hold back the end of each direction that `side` names, FIN or RST, by `delay`. Bytes pass at once.

    A store goes on believing in clients that have left, and a client in a store that has. `toxicity` is the share
    of connections that end slowly.
    """

    kind: ClassVar[str] = "network.slow_close"
    bites: ClassVar[tuple[str, ...]] = ("ends_delayed",)

    delay: Duration
    _: KW_ONLY
    side: str = "both"
    toxicity: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """Return the store, the time in seconds, the side and the share of connections."""
        return {"store": self.store, "delay_s": seconds(self.delay), "side": self.side, "toxicity": self.toxicity}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad time."""
        yield from super().problems()
        yield from self.bad_duration("delay", low_s=DELAY_S_MIN, high_s=DELAY_S_MAX)

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy counts whole milliseconds."""
        return self.not_whole("delay", unit_s=0.001)


class SlowCloseToxic(ApiToxic):
    """The proxy's part of `SlowClose`, and Toxiproxy's `slow_close`. Evidence: ends_delayed."""

    kind: ClassVar[str] = "network.slow_close"
    api_type: ClassVar[str] = "slow_close"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {"delay": (0, MILLISECONDS_MAX)}

    def __init__(self, *, delay_s: float, side: str = "both", toxicity: float = 1.0, seed: int = 0) -> None:
        """Hold ends back by `delay_s`."""
        super().__init__(side=side, toxicity=toxicity, seed=seed)
        self.delay_s = delay_s

    def attributes(self) -> dict[str, int]:
        """Return the delay in milliseconds."""
        return {"delay": round(self.delay_s * 1000)}

    @classmethod
    def settings(cls, attributes: Mapping[str, int]) -> dict[str, Any]:
        """Return the delay in seconds."""
        return {"delay_s": attributes["delay"] / 1000}

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Wait at the end of the links of the chosen sides."""
        return _SlowCloseStage(self, link) if link.side in self.sides else None


class _SlowCloseStage(PacedStage):
    """Lets bytes pass as they come, and ends later."""

    def __init__(self, toxic: SlowCloseToxic, link: Link) -> None:
        super().__init__(toxic, link)
        self._slow_close = toxic

    def feed(self, item: Item) -> None:
        """Count an end; queue it, behind the one before it."""
        if not isinstance(item, bytes):
            self.toxic.counters["ends_delayed"] += 1
        super().feed(item)

    def plan(self, arrived_s: float, item: Item, left_bytes: int) -> Departure:
        """Delay an end."""
        return Departure(arrived_s if isinstance(item, bytes) else arrived_s + self._slow_close.delay_s)
