"""Limit: a connection is closed once so many bytes have crossed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.errors import Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.end import Item, Signal
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.toxic import ApiToxic

LIMIT_BYTES_MAX = 2**63 - 1


@dataclass(frozen=True)
class Limit(PathFault):
    """Let `limit_bytes` pass on each direction that `side` names, counted per connection, then close it in order.

    The last chunk is cut at the limit, so a message may arrive by half. 0 closes at the first byte. Bytes count
    from the injection, or from the beginning of a later connection. `toxicity` is the share of connections.
    """

    kind: ClassVar[str] = "network.limit"
    bites: ClassVar[tuple[str, ...]] = ("connections_closed",)

    limit_bytes: int
    _: KW_ONLY
    side: str = "both"
    toxicity: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """Return the store, the limit in bytes, the side and the share of connections."""
        return {"store": self.store, "limit_bytes": self.limit_bytes, "side": self.side, "toxicity": self.toxicity}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a limit that is no size."""
        yield from super().problems()
        yield from self.bad_count("limit_bytes", 0, LIMIT_BYTES_MAX)

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy has it as limit_data."""
        return None


class LimitToxic(ApiToxic):
    """The proxy's part of `Limit`, and Toxiproxy's `limit_data`. Evidence: connections_closed, bytes_discarded."""

    kind: ClassVar[str] = "network.limit"
    api_type: ClassVar[str] = "limit_data"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {"bytes": (0, LIMIT_BYTES_MAX)}

    def __init__(self, *, limit_bytes: int, side: str = "both", toxicity: float = 1.0, seed: int = 0) -> None:
        """Let `limit_bytes` pass per connection and direction."""
        super().__init__(side=side, toxicity=toxicity, seed=seed)
        self.limit_bytes = limit_bytes

    def attributes(self) -> dict[str, int]:
        """Return the limit in bytes."""
        return {"bytes": self.limit_bytes}

    @classmethod
    def settings(cls, attributes: Mapping[str, int]) -> dict[str, Any]:
        """Return the limit in bytes."""
        return {"limit_bytes": attributes["bytes"]}

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Count on the links of the chosen sides."""
        return _LimitStage(self, link, connection) if link.side in self.sides else None


class _LimitStage(Stage):
    """Counts; the count goes on when the limit is changed."""

    def __init__(self, toxic: LimitToxic, link: Link, connection: Connection) -> None:
        super().__init__(toxic, link)
        self._limit = toxic
        self._connection = connection
        self._passed_bytes = 0
        self._ended = False

    def feed(self, item: Item) -> None:
        """Pass on what the limit still allows; close the connection behind it when that was all."""
        if not isinstance(item, bytes):
            if not self._ended:
                self.forward(item)
            return
        left_bytes = max(0, self._limit.limit_bytes - self._passed_bytes) if not self._ended else 0
        allowed = item[:left_bytes]
        self._passed_bytes += len(allowed)
        self.toxic.counters["bytes_discarded"] += len(item) - len(allowed)
        if allowed:
            self.forward(allowed)
        if not self._ended and self._passed_bytes >= self._limit.limit_bytes:
            self._ended = True
            self.toxic.counters["connections_closed"] += 1
            self._connection.end_behind(self.link)
            self.forward(Signal.FIN)
