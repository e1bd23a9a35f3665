"""Toxiproxy's reset_peer: connections are reset as soon as something crosses them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from chaos.faults.network.connection import Connection
from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.toxic import MILLISECONDS_MAX, ApiToxic


class ResetPeerToxic(ApiToxic):
    """Reset a new connection some time after the first byte (or end) of its direction, which never arrives.

    Connections that are open already are reset that time after the toxic comes, whether anything crosses them or
    not: with Toxiproxy they are closed in order instead, and idle ones never. Of what users declare, Disconnect and
    ResetOnAccept come near. Evidence: connections_reset, bytes_discarded.
    """

    kind: ClassVar[str] = "network.reset_peer"
    api_type: ClassVar[str] = "reset_peer"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {"timeout": (0, MILLISECONDS_MAX)}

    def __init__(self, *, after_s: float = 0.0, side: str = "both", toxicity: float = 1.0, seed: int = 0) -> None:
        """Reset `after_s` after the moment that counts."""
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
        """Act on the links of the chosen sides."""
        return _ResetPeerStage(self, link, connection) if link.side in self.sides else None


class _ResetPeerStage(Stage):
    """Swallows everything and resets the connection when its time has come."""

    def __init__(self, toxic: ResetPeerToxic, link: Link, connection: Connection) -> None:
        super().__init__(toxic, link)
        self._reset_peer = toxic
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._armed_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lossy = False

    def begin(self) -> None:
        """Count at once on a connection that was open before."""
        if self._connection.started:
            self._arm()

    def feed(self, item: Item) -> None:
        """Swallow an item; the first one starts the count."""
        self._lossy = True
        if isinstance(item, bytes):
            self.toxic.counters["bytes_discarded"] += len(item)
        if self._armed_s is None:
            self._arm()

    def refresh(self) -> None:
        """Count to the new time, from where the count began."""
        if self._armed_s is not None:
            self._wait()

    def release(self) -> None:
        """Reset a connection whose stream has a hole now; leave the others alone."""
        self.drop()
        if self._lossy:
            self._reset()

    def drop(self) -> None:
        """Stop counting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._armed_s = self._loop.time()
        self._wait()

    def _wait(self) -> None:
        assert self._armed_s is not None
        self.drop()
        due_s = self._armed_s + self._reset_peer.after_s
        if due_s <= self._loop.time():
            self._reset()
        else:
            self._timer = self._loop.call_at(due_s, self._reset)

    def _reset(self) -> None:
        if self._connection.cut("rst"):
            self.toxic.counters["connections_reset"] += 1
