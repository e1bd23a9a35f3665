"""Bandwidth: bytes cross no faster than a given rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.paced import Departure, PacedStage
from chaos.faults.network.toxic import ApiToxic

RATE_MIN = 1.0
RATE_MAX = 1e10

_API_UNIT_BYTES = 1000
_PIECE_S = 0.1
_FELT_S = 0.001


@dataclass(frozen=True)
class Bandwidth(PathFault):
    """Let bytes cross at `rate` bytes per second and no faster, on each direction that `side` names.

    Every connection and direction has the rate to itself. A chunk leaves when its last byte would have been sent;
    what would take longer than a tenth of a second leaves in pieces. `toxicity` is the share of slow connections.
    """

    kind: ClassVar[str] = "network.bandwidth"
    bites: ClassVar[tuple[str, ...]] = ("bytes_delayed",)

    rate: float
    _: KW_ONLY
    side: str = "both"
    toxicity: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """Return the store, the rate in bytes per second, the side and the share of connections."""
        return {"store": self.store, "rate_bytes": self.rate, "side": self.side, "toxicity": self.toxicity}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a rate that is no rate; to let nothing through there is Partition."""
        yield from super().problems()
        yield from self.bad_number("rate", RATE_MIN, RATE_MAX)

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy counts in thousands of bytes per second."""
        return None if self.rate % _API_UNIT_BYTES == 0 else "Toxiproxy counts rate in whole thousands of bytes"


class BandwidthToxic(ApiToxic):
    """The proxy's part of `Bandwidth`, and Toxiproxy's `bandwidth`; a rate of 0 lets nothing through and keeps it.

    Evidence: bytes_delayed counts bytes that waited a millisecond or more, once they have left or are lost.
    """

    kind: ClassVar[str] = "network.bandwidth"
    api_type: ClassVar[str] = "bandwidth"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {"rate": (0, int(RATE_MAX) // _API_UNIT_BYTES)}

    def __init__(self, *, rate_bytes: float, side: str = "both", toxicity: float = 1.0, seed: int = 0) -> None:
        """`rate_bytes` is in bytes per second, at least 0."""
        super().__init__(side=side, toxicity=toxicity, seed=seed)
        self.rate_bytes = rate_bytes

    def attributes(self) -> dict[str, int]:
        """Return the rate in thousands of bytes per second."""
        return {"rate": round(self.rate_bytes / _API_UNIT_BYTES)}

    @classmethod
    def settings(cls, attributes: Mapping[str, int]) -> dict[str, Any]:
        """Return the rate in bytes per second."""
        return {"rate_bytes": attributes["rate"] * _API_UNIT_BYTES}

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Slow down the links of the chosen sides."""
        return _BandwidthStage(self, link) if link.side in self.sides else None


class _BandwidthStage(PacedStage):
    """A line that is busy until what was sent before has been sent."""

    def __init__(self, toxic: BandwidthToxic, link: Link) -> None:
        super().__init__(toxic, link)
        self._bandwidth = toxic
        self._free_s = 0.0

    def plan(self, arrived_s: float, item: Item, left_bytes: int) -> Departure:
        """Send the next piece when the line is free; it leaves when it would have been sent."""
        start_s = max(arrived_s, self._free_s)
        rate = self._bandwidth.rate_bytes
        if not left_bytes:
            return Departure(start_s)
        if not rate:
            return Departure(math.inf)
        size_bytes = min(left_bytes, max(1, int(rate * _PIECE_S)))
        self._free_s = start_s + size_bytes / rate
        return Departure(self._free_s, size_bytes)

    def refresh(self) -> None:
        """Begin what is in front again, at the new rate."""
        self._free_s = min(self._free_s, self.loop.time())
        super().refresh()

    def moved(self, arrived_s: float, item: Item, size_bytes: int) -> None:
        """Count what has waited."""
        if self.loop.time() - arrived_s >= _FELT_S:
            self.toxic.counters["bytes_delayed"] += size_bytes
