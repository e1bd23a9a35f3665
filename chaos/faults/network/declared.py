"""What the declared network faults share: they name a store and pull its network lever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import EnvironmentUnavailable, Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers, NetworkLever


@dataclass(frozen=True)
class NetworkFault(Fault):
    """Base of faults on the way between the system under test and `store`, the name of a store of the experiment."""

    store: str

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless `store` is a name; whether the experiment has that store is checked there."""
        store = vars(self)["store"]  # whatever the user wrote
        if not isinstance(store, str) or not store:
            yield self.problem(f"store={store!r}) must name a store", 'write for example "redis"', "no-store-name")

    def toxic_arguments(self, rng: Random) -> dict[str, Any]:
        """Return what the toxic of this kind is made of; draws from `rng` only if the kind needs a seed."""
        return {name: value for name, value in self.arguments().items() if name != "store"}

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Start the fault in the store's proxy; it acts on every open connection when this returns.

        Raises EnvironmentUnavailable when the store is not reached over a network.
        """
        evidence = await self._lever(levers).inject(fault_id, self.kind, self.toxic_arguments(rng))
        return Injection(fault_id, dict(evidence))

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Stop it in the proxy and return all counters; a second call returns the same."""
        injection.evidence.update(await self._lever(levers).heal(injection.fault_id))
        return dict(injection.evidence)

    def _lever(self, levers: Levers) -> NetworkLever:
        try:
            return levers.network(self.store)
        except KeyError:
            raise EnvironmentUnavailable(
                f"{self.kind}: store {self.store!r} is not reached over a network",
                "name a store that is, such as a Redis",
            ) from None
