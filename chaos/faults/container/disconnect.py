"""NetworkDisconnect: the container's plug is pulled, and put back."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos.faults.base import Evidence, Injection, Levers
from chaos.faults.container.declared import ContainerFault


@dataclass(frozen=True)
class NetworkDisconnect(ContainerFault):
    """Take the container of `store` off its network until healed.

    Nobody is told: packets on open connections are lost and sent again by TCP, which delivers what was asked in the
    meantime, late, once the plug is back and the container has its address again. New connections through the
    Toxiproxy are accepted and closed, since their server is not found.
    """

    kind: ClassVar[str] = "container.network_disconnect"
    bites: ClassVar[tuple[str, ...]] = ("networks_left",)
    severs: ClassVar[bool] = True

    def arguments(self) -> dict[str, Any]:
        """Return the store."""
        return {"store": self.store}

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Pull the plug."""
        container = self.lever(levers)
        before = await container.networks()
        await container.disconnect()
        return Injection(fault_id, {"networks_left": len(before) - len(await container.networks())})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Put it back."""
        await self.lever(levers).connect()
        return dict(injection.evidence)
