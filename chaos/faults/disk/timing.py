"""A slow disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.disk.fault import Calls, DiskFault, names_of


@dataclass(frozen=True)
class DiskDelay(DiskFault):
    """Sleep before each matching call, at most one minute; the thread that calls is blocked.

    The time is `delay`, plus what `spread` draws from the seed, plus `bytes_per_s` for each byte asked for. The draw is
    "uniform" between 0 and `spread_by`, or has a "tail": half of the draws are below `spread_by`, one in ten above nine
    times as much, one in a hundred above 99 times.
    """

    delay: Duration
    call: Calls = "sync"
    path: str = "*"
    spread: str = "none"
    spread_by: Duration = 0
    bytes_per_s: int | None = None
    nth: int = 1
    count: int = 0

    kind: ClassVar[str] = "disk.delay"
    bites: ClassVar[tuple[str, ...]] = ("calls_delayed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_calls(self.call)
        drawn = self.spread != "none" or self.bytes_per_s is not None
        yield from self.bad_duration("delay", low_s=0.0 if drawn else 1e-6, high_s=60.0)
        yield from self.bad_choice("spread", ("none", "uniform", "tail"))
        yield from self.bad_duration("spread_by", low_s=1e-6 if self.spread != "none" else 0.0, high_s=60.0)
        if self.bytes_per_s is not None:
            yield from self._bad_whole_number("bytes_per_s", 1)
        yield from self._bad_turns()

    def action(self) -> dict[str, Any]:
        """Return what this fault adds to the rule."""
        return {
            "action": "delay",
            "delay_s": seconds(self.delay),
            "spread": self.spread,
            "spread_s": seconds(self.spread_by),
            "s_per_mib": 0 if self.bytes_per_s is None else 2**20 / self.bytes_per_s,
            "calls": list(names_of(self.call)),
            **self.turns(),
        }
