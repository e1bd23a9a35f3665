"""The declared pool: what an experiment says about how a store's connections are shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chaos._declare import Declared, Duration, seconds
from chaos.errors import Problem
from chaos.stores.pool_model import POLICIES

CONNECTIONS_MAX = 1024


@dataclass(frozen=True, kw_only=True)
class Pool(Declared):
    """How many connections a store has, and who gets one when.

    min_size are kept even when idle, max_size is never exceeded, and `reserved` of them only the commit path may have.
    growth: how many may be made at the same time. policy: "lifo" lends the connection that came back last, so that few
    are warm and the others are reaped; "round-robin" keeps all warm; "least-used" evens out. acquire_timeout: how long
    a request waits for a connection before it is refused. idle_timeout: when an idle one above min_size is closed.
    lifetime: when any is closed once it is idle. check_after: one that was idle for so long is asked whether it is
    well before it is lent.
    """

    min_size: int = 0
    max_size: int = 8
    reserved: int = 0
    growth: int = 4
    policy: str = "lifo"
    acquire_timeout: Duration = "1s"
    idle_timeout: Duration = "1m"
    lifetime: Duration = "1h"
    check_after: Duration = "30s"

    def problems(self) -> Iterator[Problem]:
        """Yield every bad setting."""
        yield from self.bad_count("max_size", 1, CONNECTIONS_MAX)
        yield from self.bad_count("growth", 1, CONNECTIONS_MAX)
        yield from self.bad_choice("policy", POLICIES)
        yield from self.bad_duration("acquire_timeout", low_s=0.001)
        yield from self.bad_duration("idle_timeout", low_s=0.05)
        yield from self.bad_duration("lifetime", low_s=0.05, high_s=7 * 86_400)
        yield from self.bad_duration("check_after")
        yield from self.bad_count("min_size", 0, CONNECTIONS_MAX)
        yield from self.bad_count("reserved", 0, CONNECTIONS_MAX)
        yield from self._bad_shares()

    def to_config(self) -> dict[str, Any]:
        """Return what `PoolSettings.from_config` reads: plain JSON values, times in seconds."""
        values: dict[str, Any] = {
            name: getattr(self, name) for name in ("min_size", "max_size", "reserved", "growth", "policy")
        }
        for name in ("acquire_timeout", "idle_timeout", "lifetime", "check_after"):
            values[f"{name}_s"] = seconds(getattr(self, name))
        return values

    def _bad_shares(self) -> Iterator[Problem]:
        if any(
            isinstance(value, bool) or not isinstance(value, int)
            for value in (self.max_size, self.min_size, self.reserved)
        ):
            return  # told already
        if self.max_size < 1:
            return
        if self.min_size > self.max_size:
            yield self.problem(
                f"min_size={self.min_size}) must be <= max_size={self.max_size}",
                "lower min_size or raise max_size",
                "pool-min-exceeds-max",
            )
        if self.reserved >= self.max_size:
            yield self.problem(
                f"reserved={self.reserved}) must be < max_size={self.max_size}, or nobody else gets a connection",
                "lower reserved or raise max_size",
                "pool-all-reserved",
            )
