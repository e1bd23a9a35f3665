"""Timeout: everything is swallowed, and after a silence the connection is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.end import Item, Signal
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.toxic import MILLISECONDS_MAX, ApiToxic

AFTER_S_MAX = 3600.0


@dataclass(frozen=True)
class Timeout(PathFault):
    """Swallow all bytes on each direction that `side` names; close the connection after `after` without any.

    after=0 never closes. The end of a connection passes, unlike in a partition. The heal closes, in order, every
    connection the fault has acted on, since its stream may have a hole. `toxicity` is their share.
    """

    kind: ClassVar[str] = "network.timeout"
    bites: ClassVar[tuple[str, ...]] = ("bytes_discarded", "connections_closed")
    # The coordinator goes on committing to the other stores while one cannot be reached.
    stops_work: ClassVar[bool] = False

    after: Duration
    _: KW_ONLY
    side: str = "both"
    toxicity: float = 1.0

    def __post_init__(self) -> None:
        """Only when it acts on every connection none is left to use."""
        object.__setattr__(self, "severs", self.toxicity == 1)

    def arguments(self) -> dict[str, Any]:
        """Return the store, the time in seconds, the side and the share of connections."""
        return {"store": self.store, "after_s": seconds(self.after), "side": self.side, "toxicity": self.toxicity}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad time."""
        yield from super().problems()
        yield from self.bad_duration("after", high_s=AFTER_S_MAX)

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy counts whole milliseconds."""
        return self.not_whole("after", unit_s=0.001)


class TimeoutToxic(ApiToxic):
    """The proxy's part of `Timeout`, and Toxiproxy's `timeout`.

    Evidence: bytes_discarded, connections_closed (after the silence), connections_closed_by_heal.
    """

    kind: ClassVar[str] = "network.timeout"
    api_type: ClassVar[str] = "timeout"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {"timeout": (0, MILLISECONDS_MAX)}

    def __init__(self, *, after_s: float, side: str = "both", toxicity: float = 1.0, seed: int = 0) -> None:
        """Close after `after_s` without bytes; 0 never does."""
        super().__init__(side=side, toxicity=toxicity, seed=seed)
        self.after_s = after_s

    def attributes(self) -> dict[str, int]:
        """Return the time in milliseconds."""
        return {"timeout": round(self.after_s * 1000)}

    @classmethod
    def settings(cls, attributes: Mapping[str, int]) -> dict[str, Any]:
        """Return the time in seconds."""
        return {"after_s": attributes["timeout"] / 1000}

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Swallow on the links of the chosen sides."""
        return _TimeoutStage(self, link, connection) if link.side in self.sides else None


class _TimeoutStage(Stage):
    """Throws bytes away and counts down; each chunk starts the count again."""

    def __init__(self, toxic: TimeoutToxic, link: Link, connection: Connection) -> None:
        super().__init__(toxic, link)
        self._timeout = toxic
        self._connection = connection
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False

    def begin(self) -> None:
        """Start to count down."""
        self._restart()

    def feed(self, item: Item) -> None:
        """Throw bytes away, pass an end on."""
        if isinstance(item, bytes):
            self.toxic.counters["bytes_discarded"] += len(item)
            self._restart()
        elif not self._expired:
            self.forward(item)

    def refresh(self) -> None:
        """Count from the beginning, with the new time."""
        self._restart()

    def release(self) -> None:
        """Close the connection, since its stream may have a hole."""
        self._stop_timer()
        if not self._expired and self._connection.cut("fin"):
            self.toxic.counters["connections_closed_by_heal"] += 1

    def drop(self) -> None:
        """Stop counting."""
        self._stop_timer()

    def _restart(self) -> None:
        self._stop_timer()
        if self._timeout.after_s and not self._expired:
            self._timer = asyncio.get_running_loop().call_later(self._timeout.after_s, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self.toxic.counters["connections_closed"] += 1
        self._connection.end_behind(self.link)
        self.forward(Signal.FIN)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
