"""ResetOnAccept: connections are made and reset at once."""

from __future__ import annotations

import socket
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.faults.network.declared import ConnectFault
from chaos.faults.network.sockets import close_resets
from chaos.faults.network.toxic import Control, Toxic


@dataclass(frozen=True)
class ResetOnAccept(ConnectFault):
    """Accept every new connection to `store` and reset it at once; with `cut`, reset the open ones first.

    `connect` succeeds and the first read or write fails, as behind a balancer whose backend has gone.
    """

    kind: ClassVar[str] = "network.reset_on_accept"
    bites: ClassVar[tuple[str, ...]] = ("connections_reset",)
    # The coordinator goes on committing to the other stores while one cannot be reached.
    stops_work: ClassVar[bool] = False

    _: KW_ONLY
    cut: bool = True

    def __post_init__(self) -> None:
        """Connections that stay open go on being used."""
        object.__setattr__(self, "severs", self.cut)

    def arguments(self) -> dict[str, Any]:
        """Return the store and whether open connections are reset."""
        return {"store": self.store, "cut": self.cut}


class ResetOnAcceptToxic(Toxic):
    """The proxy's part of `ResetOnAccept`. Evidence: connections_reset (new ones), connections_cut (open ones)."""

    kind: ClassVar[str] = "network.reset_on_accept"

    def __init__(self, *, cut: bool = True) -> None:
        """With `cut`, open connections are reset."""
        super().__init__()
        self._cut = cut

    async def start(self, control: Control) -> None:
        """Cut what is open."""
        if self._cut:
            self.counters["connections_cut"] = control.cut_all("rst")

    async def admit(self, client: socket.socket) -> bool:
        """Reset it."""
        self.counters["connections_reset"] += 1
        close_resets(client)
        return False
