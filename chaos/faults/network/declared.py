"""What the declared network faults share: they name a store and pull its network lever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos._declare import seconds
from chaos.errors import EnvironmentUnavailable, Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers, NetworkLever
from chaos.faults.network.toxic import SIDES

TOXICITY_MIN = 0.001
"""The smallest share of connections that is worth declaring; 0 would be no fault."""

_UNITS = {0.001: "milliseconds", 0.000001: "microseconds"}
_ROUNDING = 1e-6


@dataclass(frozen=True)
class NetworkFault(Fault):
    """Base of faults on the way between the system under test and `store`, the name of a store of the experiment."""

    store: str

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless `store` is a name; whether the experiment has that store is checked there."""
        store = vars(self)["store"]  # whatever the user wrote
        if not isinstance(store, str) or not store:
            yield self.problem(f"store={store!r}) must name a store", 'write for example "redis"', "no-store-name")

    def refused_by(self, provider: str) -> str | None:
        """Ask what Toxiproxy lacks, wherever one stands before the store; our own proxy does everything."""
        if provider == "embedded" or any(self.problems()):
            return None
        return self.beyond_toxiproxy()

    def beyond_toxiproxy(self) -> str | None:
        """Return why a Toxiproxy cannot do this; None when it can."""
        return "Toxiproxy has no such fault"

    def not_whole(self, *names: str, unit_s: float) -> str | None:
        """Return why Toxiproxy cannot do these times, which it counts in whole units of `unit_s`."""
        for name in names:
            units = seconds(getattr(self, name)) / unit_s
            if abs(units - round(units)) > _ROUNDING:
                return f"Toxiproxy counts {name} in whole {_UNITS[unit_s]}"
        return None

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


@dataclass(frozen=True)
class SeededFault(NetworkFault):
    """Base of network faults that draw: the proxy gets a seed of its own for each injection."""

    def toxic_arguments(self, rng: Random) -> dict[str, Any]:
        """Add the root of the fault's streams in the proxy, drawn from `rng`."""
        return {**super().toxic_arguments(rng), "seed": rng.getrandbits(53)}


@dataclass(frozen=True)
class PathFault(SeededFault):
    """Base of faults on what crosses a connection. Each declares `side` and `toxicity`, the latter above 0."""

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown side and for a toxicity that is no share."""
        yield from super().problems()
        yield from self.bad_choice("side", tuple(SIDES))
        yield from self.bad_number("toxicity", TOXICITY_MIN, 1)

    def bad_count(self, name: str, low: int, high: int) -> Iterator[Problem]:
        """Yield a problem unless attribute `name` is a whole number within [low, high]."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            yield self.problem(
                f"{name}={value!r}) must be a whole number between {low} and {high}", f"change {name}", "out-of-range"
            )


@dataclass(frozen=True)
class ConnectFault(NetworkFault):
    """Base of faults on how connections are made. Each declares `cut`: whether the open ones are reset first.

    A client with open connections makes no new ones, and would not notice.
    """

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless `cut` is True or False."""
        yield from super().problems()
        cut = vars(self)["cut"]  # whatever the user wrote
        if not isinstance(cut, bool):
            yield self.problem(f"cut={cut!r}) must be True or False", "change cut", "not-a-choice")
