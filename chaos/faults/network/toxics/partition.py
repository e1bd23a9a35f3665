"""Partition: bytes stop arriving, while the connection looks open to both ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.errors import HarnessError, Problem
from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import NetworkFault
from chaos.faults.network.end import Item, Signal
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.sockets import peer_left
from chaos.faults.network.toxic import SIDES, Control, Toxic, directions

MODES = ("discard", "stall")
HELD = ("drop", "late")
_USUAL_HELD = {"discard": "drop", "stall": "late"}


@dataclass(frozen=True)
class Partition(NetworkFault):
    """Let nothing through on the directions that `side` names: "request" (to the store), "reply" or "both".

    mode="discard" swallows bytes; the heal resets every connection that lost some, because TCP shows no hole in
    a stream. mode="stall" stops reading, so senders fill their buffers and wait. What becomes of the bytes that
    were held is told by `held`: "late", the usual for a stall, delivers them although their sender may be gone, so
    that a write takes effect long after it was given up; "drop" throws them away and resets their connections.
    Bytes that were swallowed cannot be delivered: a discard always drops.

    With side="both" a new connection is accepted by the kernel and carries nothing. When the heal drops it is reset;
    when it delivers late it is let in, unless its client has left by then. One-way partitions let new connections
    in and act on their bytes.
    """

    kind: ClassVar[str] = "network.partition"
    bites: ClassVar[tuple[str, ...]] = ("bytes_held", "bytes_discarded", "connections_stalled")
    # The coordinator goes on committing to the other stores while one cannot be reached.
    stops_work: ClassVar[bool] = False
    severs: ClassVar[bool] = True

    _: KW_ONLY
    side: str = "both"
    mode: str = "discard"
    held: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the store, the side, the mode, and what becomes of the bytes that were held."""
        return {"store": self.store, "side": self.side, "mode": self.mode, "held": self.held or _USUAL_HELD[self.mode]}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown word, and for the late delivery of what was not kept."""
        yield from super().problems()
        yield from self.bad_choice("side", tuple(SIDES))
        yield from self.bad_choice("mode", MODES)
        if self.held is not None:
            yield from self.bad_choice("held", HELD)
        if self.mode == "discard" and self.held == "late":
            yield self.problem(
                'held="late") needs mode="stall", because a discard keeps nothing',
                "change mode or held",
                "nothing-held",
            )

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy can swallow everything, or let nothing through and deliver it afterwards."""
        if self.mode == "stall" and self.held == "drop":
            return "what Toxiproxy has held it always delivers"
        return None


class PartitionToxic(Toxic):
    """The proxy's part of `Partition`.

    Evidence: bytes_discarded (swallowed), signals_discarded (FIN and RST swallowed), bytes_held (held back by a
    stall, counted when it ends), connections_stalled (arrived meanwhile and were not let in), connections_reset
    (by the heal, having lost bytes).
    """

    kind: ClassVar[str] = "network.partition"

    def __init__(self, *, side: str = "both", mode: str = "discard", held: str | None = None) -> None:
        """`held` None stands for what is usual with the mode. Raises HarnessError for an unknown word."""
        super().__init__()
        if mode not in MODES:
            raise HarnessError(f"mode={mode!r} must be one of {', '.join(MODES)}")
        if held not in (None, *HELD) or (mode, held) == ("discard", "late"):
            raise HarnessError(f"held={held!r} must be one of {', '.join(HELD)}, and drop with mode='discard'")
        self._sides = directions(side)
        self._discards = mode == "discard"
        self._drops = (held or _USUAL_HELD[mode]) == "drop"
        self._healed = asyncio.Event()

    async def admit(self, client: socket.socket) -> bool:
        """Keep a new connection waiting while nothing can cross in either direction."""
        if self._sides != SIDES["both"]:
            return True
        self.counters["connections_stalled"] += 1
        await self._healed.wait()
        # A client that gave up never got its SYN through in a real partition, so its bytes must not arrive.
        return not self._drops and not peer_left(client)

    async def stop(self, control: Control) -> None:
        """Decide on the connections that wait."""
        self._healed.set()

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Block the links of the chosen sides."""
        if link.side not in self._sides:
            return None
        if self._discards:
            return _DiscardStage(self, link, connection)
        return _StallStage(self, link, connection if self._drops else None)


class _DiscardStage(Stage):
    """Swallows everything and remembers that it did."""

    def __init__(self, toxic: Toxic, link: Link, connection: Connection) -> None:
        super().__init__(toxic, link)
        self._connection = connection
        self._lossy = False

    def feed(self, item: Item) -> None:
        """Swallow the item."""
        self._lossy = True
        if isinstance(item, Signal):
            self.toxic.counters["signals_discarded"] += 1
        else:
            self.toxic.counters["bytes_discarded"] += len(item)

    def release(self) -> None:
        """Reset the connection if its stream has a hole now."""
        if self._lossy and self._connection.cut("rst"):
            self.toxic.counters["connections_reset"] += 1


class _StallStage(Stage):
    """Stops reading the source; keeps what stages before it still had on their way.

    With a connection to reset, what was held is thrown away by the heal; without one it is delivered.
    """

    def __init__(self, toxic: Toxic, link: Link, to_reset: Connection | None) -> None:
        super().__init__(toxic, link)
        self._to_reset = to_reset
        self._queue: list[Item] = []

    def begin(self) -> None:
        """Stop reading: the kernel's buffer fills up, then the peer's."""
        self.link.source.pause(self)

    def feed(self, item: Item) -> None:
        """Keep an item that was on its way already."""
        self._queue.append(item)
        if isinstance(item, bytes):
            self.link.hold(len(item))

    def release(self) -> None:
        """Deliver what was held, late, and read on; or throw it away and reset the connection."""
        if self._to_reset is not None and (self._queue or self.link.source.unread_bytes):
            if self._to_reset.cut("rst"):  # which drops this stage, and counts
                self.toxic.counters["connections_reset"] += 1
            return
        self._count()
        queue, self._queue = self._queue, []
        for item in queue:
            if isinstance(item, bytes):
                self.link.let_go(len(item))
            self.forward(item)
        self.link.source.resume(self)

    def drop(self) -> None:
        """Count what the stall had kept from arriving."""
        self._count()
        self._queue.clear()

    def _count(self) -> None:
        queued = sum(len(item) for item in self._queue if isinstance(item, bytes))
        self.toxic.counters["bytes_held"] += queued + self.link.source.unread_bytes
