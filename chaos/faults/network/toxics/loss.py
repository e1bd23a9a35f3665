"""Loss: packets get lost on the way, which TCP hides and a client sees as stalls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.draws import Draws
from chaos.faults.network.end import Item, Signal
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.paced import Departure, PacedStage
from chaos.faults.network.toxic import Toxic, directions

SEGMENT_BYTES = 1448
"""What a TCP segment carries over Ethernet: 1500 bytes less the headers of IPv4 and TCP with timestamps."""

RETRANSMIT_S = 0.2
"""The shortest time after which Linux sends a segment again (TCP_RTO_MIN); it doubles with each further loss."""

RETRANSMISSIONS_MAX = 8
"""After so many losses of one segment it passes, so that a stall has an end: that of the last lasts 25.6 s."""

RATE_MIN = 0.0001
RATE_MAX = 0.9


@dataclass(frozen=True)
class Loss(PathFault):
    """Lose a share `rate` of the packets on each direction that `side` names.

    No byte is lost to the reader, because TCP sends a lost packet again: the stream stands still for 200 ms, and
    twice as long for each time that the same packet is lost again. `correlation`, from 0 to 1, makes losses come in
    bursts. `toxicity` is the share of connections that lose any.
    """

    kind: ClassVar[str] = "network.loss"
    bites: ClassVar[tuple[str, ...]] = ("segments_lost",)

    rate: float
    _: KW_ONLY
    side: str = "both"
    correlation: float = 0.0
    toxicity: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """Return the store, the rate and correlation, the side and the share of connections."""
        return {
            "store": self.store,
            "rate": self.rate,
            "side": self.side,
            "correlation": self.correlation,
            "toxicity": self.toxicity,
        }

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a rate or a correlation out of range."""
        yield from super().problems()
        yield from self.bad_number("rate", RATE_MIN, RATE_MAX)
        yield from self.bad_number("correlation", 0, 1)


class LossToxic(Toxic):
    """The proxy's part of `Loss`. Evidence: segments_lost, those sent again and lost again included."""

    kind: ClassVar[str] = "network.loss"

    def __init__(
        self, *, rate: float, side: str = "both", correlation: float = 0.0, toxicity: float = 1.0, seed: int = 0
    ) -> None:
        """Every direction of every connection draws from a stream of its own below `seed`."""
        super().__init__(toxicity=toxicity, seed=seed)
        self.rate = rate
        self._correlation = correlation
        self._sides = directions(side)

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Lose on the links of the chosen sides."""
        if link.side not in self._sides:
            return None
        return _LossStage(self, link, Draws(self.rng(connection.ordinal, link.side), self._correlation))


class _LossStage(PacedStage):
    """Passes segments until one is lost; that one, and all behind it, wait until it has come through."""

    def __init__(self, toxic: LossToxic, link: Link, draws: Draws) -> None:
        super().__init__(toxic, link)
        self._loss = toxic
        self._draws = draws
        self._lost_next = False

    def plan(self, arrived_s: float, item: Item, left_bytes: int) -> Departure:
        """Draw for each segment up to the next that is lost, and how long that one stalls."""
        if item is Signal.RST:  # a reset is not sent again, and without it nothing would ever end
            return Departure(arrived_s)
        left_segments = max(1, -(-left_bytes // SEGMENT_BYTES))
        if not self._lost_next:
            through = 0
            while through < left_segments and not self._loses():
                through += 1
            self._lost_next = through < left_segments
            if through:
                return Departure(arrived_s, through * SEGMENT_BYTES)
        self._lost_next = False
        return Departure(self.loop.time() + self._stall_s(), SEGMENT_BYTES)

    def _loses(self) -> bool:
        lost = self._draws.share() < self._loss.rate
        self.toxic.counters["segments_lost"] += lost
        return lost

    def _stall_s(self) -> float:
        """Return how long it takes a lost segment to come through."""
        total_s = wait_s = RETRANSMIT_S
        for _ in range(1, RETRANSMISSIONS_MAX):
            if not self._loses():
                break
            wait_s *= 2
            total_s += wait_s
        return total_s
