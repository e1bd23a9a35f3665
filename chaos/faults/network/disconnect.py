"""Disconnect: every live connection is cut at one moment; new ones work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, cast

from chaos.errors import HarnessError, Problem
from chaos.faults.network.connection import Cut
from chaos.faults.network.declared import NetworkFault
from chaos.faults.network.toxic import Control, Toxic

WAYS = ("rst", "fin")


@dataclass(frozen=True)
class Disconnect(NetworkFault):
    """Cut all connections to `store`, idle ones too, towards the client and towards the store at once.

    how="rst" resets them: what is on its way is lost. how="fin" closes them in order: what is on its way is
    sent first, then each peer reads end of file. Either way a request may have been executed and its reply lost.
    """

    kind: ClassVar[str] = "network.disconnect"
    bites: ClassVar[tuple[str, ...]] = ("connections_cut",)
    lasting: ClassVar[bool] = False

    _: KW_ONLY
    how: str = "rst"

    def arguments(self) -> dict[str, Any]:
        """Return the store and the way."""
        return {"store": self.store, "how": self.how}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown way."""
        yield from super().problems()
        yield from self.bad_choice("how", WAYS)


class DisconnectToxic(Toxic):
    """The proxy's part of `Disconnect`. Evidence: connections_cut."""

    kind: ClassVar[str] = "network.disconnect"
    lasting: ClassVar[bool] = False

    def __init__(self, *, how: str = "rst") -> None:
        """Raises HarnessError for an unknown way."""
        super().__init__()
        if how not in WAYS:
            raise HarnessError(f"how={how!r} must be one of {', '.join(WAYS)}")
        self._how = cast("Cut", how)

    async def start(self, control: Control) -> None:
        """Cut what is connected now."""
        self.counters["connections_cut"] = control.cut_all(self._how)
