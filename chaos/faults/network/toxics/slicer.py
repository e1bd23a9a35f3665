"""Slicer: what was written at once arrives in small pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from random import Random
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.paced import Departure, PacedStage
from chaos.faults.network.toxic import MILLISECONDS_MAX, ApiToxic

AVERAGE_BYTES_MAX = 256 * 1024
DELAY_S_MAX = 10.0

_API_BYTES_MAX = 2**31 - 1


@dataclass(frozen=True)
class Slicer(PathFault):
    """Cut every chunk into pieces of `average_bytes`, more or less by up to `variation_bytes`.

    After each piece the next one waits for `delay`. Every byte arrives, in order, on each direction that `side`
    names; a reader that takes one read for one message does not survive it. Without a delay the pieces are written
    one by one, but a slow reader may find several at once. `toxicity` is the share of connections that are cut up.
    """

    kind: ClassVar[str] = "network.slicer"
    bites: ClassVar[tuple[str, ...]] = ("chunks_sliced",)

    average_bytes: int
    _: KW_ONLY
    variation_bytes: int = 0
    delay: Duration = 0
    side: str = "both"
    toxicity: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """Return the store, the sizes in bytes, the time in seconds, the side and the share of connections."""
        return {
            "store": self.store,
            "average_bytes": self.average_bytes,
            "variation_bytes": self.variation_bytes,
            "delay_s": seconds(self.delay),
            "side": self.side,
            "toxicity": self.toxicity,
        }

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each bad value, and for a variation that would make a size zero or less."""
        yield from super().problems()
        sizes = [
            *self.bad_count("average_bytes", 1, AVERAGE_BYTES_MAX),
            *self.bad_count("variation_bytes", 0, AVERAGE_BYTES_MAX),
        ]
        yield from sizes
        if not sizes and self.variation_bytes >= self.average_bytes:
            yield self.problem(
                f"variation_bytes={self.variation_bytes}) must be < average_bytes={self.average_bytes}",
                "lower variation_bytes or raise average_bytes",
                "variation-exceeds-average",
            )
        yield from self.bad_duration("delay", high_s=DELAY_S_MAX)

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy slices too, and pauses for whole microseconds."""
        return self.not_whole("delay", unit_s=0.000001)


class SlicerToxic(ApiToxic):
    """The proxy's part of `Slicer`, and Toxiproxy's `slicer`. Evidence: chunks_sliced."""

    kind: ClassVar[str] = "network.slicer"
    api_type: ClassVar[str] = "slicer"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {
        "average_size": (1, _API_BYTES_MAX),
        "size_variation": (0, _API_BYTES_MAX),
        "delay": (0, MILLISECONDS_MAX * 1000),
    }

    def __init__(
        self,
        *,
        average_bytes: int,
        variation_bytes: int = 0,
        delay_s: float = 0.0,
        side: str = "both",
        toxicity: float = 1.0,
        seed: int = 0,
    ) -> None:
        """Every direction of every connection draws its sizes from a stream of its own below `seed`."""
        super().__init__(side=side, toxicity=toxicity, seed=seed)
        self.average_bytes = average_bytes
        self.variation_bytes = variation_bytes
        self.delay_s = delay_s

    def attributes(self) -> dict[str, int]:
        """Return the sizes in bytes and the pause in microseconds."""
        return {
            "average_size": self.average_bytes,
            "size_variation": self.variation_bytes,
            "delay": round(self.delay_s * 1_000_000),
        }

    @classmethod
    def settings(cls, attributes: Mapping[str, int]) -> dict[str, Any]:
        """Return the sizes and the time in seconds. Raises ValueError for sizes that could be zero or less."""
        average, variation = attributes["average_size"], attributes["size_variation"]
        if variation >= average:
            raise ValueError(f"size_variation must be less than average_size, which is {average}, not {variation}")
        return {
            "average_bytes": average,
            "variation_bytes": variation,
            "delay_s": attributes["delay"] / 1_000_000,
        }

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Slice on the links of the chosen sides."""
        return _SlicerStage(self, link, self.rng(connection.ordinal, link.side)) if link.side in self.sides else None


class _SlicerStage(PacedStage):
    """Draws the size of each piece; a rest that is no longer than the longest piece stays whole."""

    def __init__(self, toxic: SlicerToxic, link: Link, rng: Random) -> None:
        super().__init__(toxic, link)
        self._slicer = toxic
        self._rng = rng
        self._free_s = 0.0

    def plan(self, arrived_s: float, item: Item, left_bytes: int) -> Departure:
        """Cut off the next piece."""
        due_s = max(arrived_s, self._free_s)
        average, variation = self._slicer.average_bytes, self._slicer.variation_bytes
        size_bytes = left_bytes
        if left_bytes > average + variation:
            size_bytes = self._rng.randint(average - variation, average + variation)
        if isinstance(item, bytes):
            self._free_s = due_s + self._slicer.delay_s
            if size_bytes < left_bytes == len(item):
                self.toxic.counters["chunks_sliced"] += 1
        return Departure(due_s, size_bytes)

    def refresh(self) -> None:
        """Cut what is in front anew, now."""
        self._free_s = min(self._free_s, self.loop.time())
        super().refresh()
