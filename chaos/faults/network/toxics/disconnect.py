"""Disconnect: every live connection is cut at one moment, in one of five ways; new ones work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.errors import HarnessError, Problem
from chaos.faults.network.connection import CUTS, Connection, Cut
from chaos.faults.network.declared import NetworkFault
from chaos.faults.network.toxic import Control, Toxic

LASTING: tuple[Cut, ...] = ("half_close", "stall", "discard")
"""The ways that leave sockets open, which the heal resets."""


@dataclass(frozen=True)
class Disconnect(NetworkFault):
    """Cut all connections to `store`, idle ones too, towards the client and towards the store at once.

    how="rst" resets them: what is on its way is lost. how="fin" closes them in order: what is on its way is
    sent first, then each peer reads end of file. how="half_close" closes the direction to the client only: it reads
    end of file, while its requests still arrive and are executed, and their replies are thrown away.
    how="stall" stops reading from both, for good; how="discard" reads and throws everything away, ends too: with
    both, the connection looks open and is dead. The last three hold until healed, which resets those connections.
    Whatever the way, a request may have been executed and its reply lost.
    """

    kind: ClassVar[str] = "network.disconnect"
    bites: ClassVar[tuple[str, ...]] = ("connections_cut",)
    # The coordinator goes on committing to the other stores, and to this one by new connections.
    stops_work: ClassVar[bool] = False

    _: KW_ONLY
    how: str = "rst"

    def __post_init__(self) -> None:
        """A cut that closes everything is a point in time; the others leave something to heal."""
        object.__setattr__(self, "lasting", self.how in LASTING)

    def arguments(self) -> dict[str, Any]:
        """Return the store and the way."""
        return {"store": self.store, "how": self.how}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown way."""
        yield from super().problems()
        yield from self.bad_choice("how", CUTS)

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy can close all connections and, with a trick, reset them."""
        return f"Toxiproxy cannot cut connections by {self.how}" if self.how in LASTING else None


class DisconnectToxic(Toxic):
    """The proxy's part of `Disconnect`. Evidence: connections_cut; connections_reset by the heal."""

    kind: ClassVar[str] = "network.disconnect"

    def __init__(self, *, how: str = "rst") -> None:
        """Raises HarnessError for an unknown way."""
        super().__init__()
        if how not in CUTS:
            raise HarnessError(f"how={how!r} must be one of {', '.join(CUTS)}")
        self._how = how
        self._left_open: tuple[Connection, ...] = ()
        self.lasting = how in LASTING

    async def start(self, control: Control) -> None:
        """Cut what is connected now."""
        spared = tuple(one for one in control.connections() if one.how_cut != self._how)
        self.counters["connections_cut"] = control.cut_all(self._how)
        if self.lasting:
            self._left_open = tuple(one for one in spared if one.how_cut == self._how)

    async def stop(self, control: Control) -> None:
        """Reset what the cut has left open."""
        left_open, self._left_open = self._left_open, ()
        if reset := sum(connection.cut("rst") for connection in left_open):
            self.counters["connections_reset"] = reset
