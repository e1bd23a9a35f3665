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


@dataclass(frozen=True)
class Partition(NetworkFault):
    """Let nothing through on the directions that `side` names: "request" (to the store), "reply" or "both".

    mode="discard" swallows bytes; the heal resets every connection that lost some, because TCP shows no hole in
    a stream. mode="stall" stops reading, so senders fill their buffers and wait; the heal delivers everything,
    late: a write may take effect long after its sender gave up.

    With side="both" a new connection is accepted by the kernel and carries nothing. After a discard it is reset;
    after a stall it is let in, unless its client has left by then. One-way partitions let new connections in
    and act on their bytes.
    """

    kind: ClassVar[str] = "network.partition"
    bites: ClassVar[tuple[str, ...]] = ("bytes_held", "bytes_discarded", "connections_stalled")
    # The coordinator goes on committing to the other stores while one cannot be reached.
    stops_work: ClassVar[bool] = False

    _: KW_ONLY
    side: str = "both"
    mode: str = "discard"

    def arguments(self) -> dict[str, Any]:
        """Return the store, the side and the mode."""
        return {"store": self.store, "side": self.side, "mode": self.mode}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown side or mode."""
        yield from super().problems()
        yield from self.bad_choice("side", tuple(SIDES))
        yield from self.bad_choice("mode", MODES)


class PartitionToxic(Toxic):
    """The proxy's part of `Partition`.

    Evidence: bytes_discarded (swallowed), signals_discarded (FIN and RST swallowed), bytes_held (held back by a
    stall, counted when it ends), connections_stalled (arrived meanwhile and were not let in), connections_reset
    (by the heal, having lost bytes).
    """

    kind: ClassVar[str] = "network.partition"

    def __init__(self, *, side: str = "both", mode: str = "discard") -> None:
        """Raises HarnessError for an unknown side or mode."""
        super().__init__()
        if mode not in MODES:
            raise HarnessError(f"mode={mode!r} must be one of {', '.join(MODES)}")
        self._sides = directions(side)
        self._discards = mode == "discard"
        self._healed = asyncio.Event()

    async def admit(self, client: socket.socket) -> bool:
        """Keep a new connection waiting while nothing can cross in either direction."""
        if self._sides != SIDES["both"]:
            return True
        self.counters["connections_stalled"] += 1
        await self._healed.wait()
        # A client that gave up never got its SYN through in a real partition, so its bytes must not arrive.
        return not self._discards and not peer_left(client)

    async def stop(self, control: Control) -> None:
        """Decide on the connections that wait."""
        self._healed.set()

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Block the links of the chosen sides."""
        if link.side not in self._sides:
            return None
        return _DiscardStage(self, link, connection) if self._discards else _StallStage(self, link)


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
    """Stops reading the source; keeps what stages before it still had on their way."""

    def __init__(self, toxic: Toxic, link: Link) -> None:
        super().__init__(toxic, link)
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
        """Deliver what was held, late, and read on."""
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
