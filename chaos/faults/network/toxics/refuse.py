"""Refuse: nobody listens on the store's port, as when its server is down."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.faults.network.declared import ConnectFault
from chaos.faults.network.toxic import Control, Toxic


@dataclass(frozen=True)
class Refuse(ConnectFault):
    """Refuse every new connection to `store` until healed; with `cut`, reset the open ones first.

    The kernel refuses (ECONNREFUSED) without telling anybody, so refused clients cannot be counted. What shows
    that the fault acts is the proxy's own attempt to connect, which must be refused (probe_refused).
    """

    kind: ClassVar[str] = "network.refuse"
    bites: ClassVar[tuple[str, ...]] = ("connections_cut", "probe_refused")
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

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy disables a proxy as a whole."""
        return None if self.cut else "a Toxiproxy that refuses closes its open connections too"


class RefuseToxic(Toxic):
    """The proxy's part of `Refuse`. Evidence: listener_closed, connections_cut, probe_refused (1 or 0)."""

    kind: ClassVar[str] = "network.refuse"

    def __init__(self, *, cut: bool = True) -> None:
        """With `cut`, open connections are reset."""
        super().__init__()
        self._cut = cut

    async def start(self, control: Control) -> None:
        """Close the listening socket, cut, and see for ourselves that a connect is refused."""
        control.stop_listening(self)
        self.counters["listener_closed"] = 1
        if self._cut:
            self.counters["connections_cut"] = control.cut_all("rst")
        self.counters["probe_refused"] = int(await control.refuses())

    async def stop(self, control: Control) -> None:
        """Listen again."""
        control.listen(self)
