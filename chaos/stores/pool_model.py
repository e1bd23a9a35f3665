"""The settings of a pool, what it counts, and how it chooses among idle connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from chaos.errors import StoreUnavailable

Item = TypeVar("Item")
POLICIES = ("lifo", "round-robin", "least-used")


class PoolExhausted(StoreUnavailable):
    """No connection became free within the acquire timeout; the request was not sent."""


@dataclass(frozen=True)
class PoolSettings:
    """How a pool behaves; `chaos.stores.Pool` declares and validates the same values.

    min_size: kept even when idle. max_size: never more, those being made or closed among them. reserved: so many of
    them only `acquire(reserved=True)` may have. growth: how many may be made at the same time. policy: which idle
    connection is lent, the one that came back last ("lifo": few are warm, the others are reaped), the next in turn
    ("round-robin": all stay warm) or the one lent least often ("least-used"). Times are in seconds: acquire_timeout_s
    is how long one waits, idle_timeout_s when a connection above min_size is closed, lifetime_s when any is, and one
    that was idle for check_after_s is asked whether it is well before it is lent.
    """

    min_size: int = 0
    max_size: int = 8
    reserved: int = 0
    growth: int = 4
    policy: str = "lifo"
    acquire_timeout_s: float = 1.0
    idle_timeout_s: float = 60.0
    lifetime_s: float = 3600.0
    check_after_s: float = 30.0

    @classmethod
    def from_config(cls, values: Mapping[str, Any] | None, **defaults: Any) -> PoolSettings:
        """Return the settings that a declared pool's `to_config` told; `defaults` where there is none."""
        return cls(**(dict(values) if values is not None else defaults))


@dataclass
class PoolStats:
    """What a pool has seen since it was made. Counts only grow; peak_in_use is the most lent at once.

    lent: acquisitions served; reused: those with a connection that had been lent before. waits: acquisitions that were
    not served at once, wait_s their time altogether and wait_s_max the longest. discarded: connections closed for any
    reason; errors: those that could not be made or were found broken; timeouts: acquisitions given up by the pool.
    """

    lent: int = 0
    reused: int = 0
    created: int = 0
    discarded: int = 0
    errors: int = 0
    waits: int = 0
    wait_s: float = 0.0
    wait_s_max: float = 0.0
    timeouts: int = 0
    peak_in_use: int = 0
    peak_size: int = 0

    def waited(self, seconds: float) -> None:
        """Count one acquisition that had to wait."""
        self.waits += 1
        self.wait_s += seconds
        self.wait_s_max = max(self.wait_s_max, seconds)


@dataclass(frozen=True)
class PoolReport:
    """The state of a pool at one moment: size = in_use + idle; moving ones are being made, checked or closed."""

    name: str
    size: int
    in_use: int
    idle: int
    moving: int
    waiting: int
    stats: PoolStats

    def to_json(self) -> dict[str, Any]:
        """Return one flat mapping of plain values, as it stands in `metrics.json`."""
        values = asdict(self)
        return {**{key: value for key, value in values.items() if key != "stats"}, **values["stats"]}


@dataclass(eq=False)
class Place(Generic[Item]):
    """One connection of a pool. number: a serial number; times on the pool's clock, in seconds."""

    item: Item
    number: int
    born_s: float
    idle_since_s: float
    use_count: int = 0


@dataclass(eq=False)
class Lease(Generic[Item]):
    """A connection in one user's hands. `held` is False once it was given back, or taken away by the pool's end."""

    place: Place[Item]
    reserved: bool
    held: bool = field(default=True)

    @property
    def item(self) -> Item:
        """The connection itself."""
        return self.place.item


class Order(Protocol):
    """Chooses which of the idle connections is lent."""

    def __call__(self, idle: Sequence[Place[Any]]) -> int:
        """Return an index into `idle`, which is not empty and in the order of coming back."""


class _RoundRobin:
    def __init__(self) -> None:
        self._last = 0

    def __call__(self, idle: Sequence[Place[Any]]) -> int:
        after = [index for index, place in enumerate(idle) if place.number > self._last]
        chosen = min(after or range(len(idle)), key=lambda index: idle[index].number)
        self._last = idle[chosen].number
        return chosen


def order(policy: str) -> Order:
    """Return the rule with that name, one of `POLICIES`; it may remember what it chose."""
    match policy:
        case "lifo":
            return lambda idle: len(idle) - 1
        case "round-robin":
            return _RoundRobin()
        case "least-used":
            return lambda idle: min(range(len(idle)), key=lambda index: (idle[index].use_count, idle[index].number))
    raise ValueError(f"policy={policy!r} must be one of {', '.join(POLICIES)}")
