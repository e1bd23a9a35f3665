"""How many clients there are, how often they come, and which objects they touch: what all workloads share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import accumulate
from random import Random
from typing import Any, Literal, Self

from chaos._declare import Declared, Duration, seconds
from chaos.errors import Problem

Arrivals = Literal["closed", "open"]
ARRIVALS: tuple[str, ...] = ("closed", "open")


@dataclass(frozen=True, kw_only=True)
class Shape(Declared):
    """The load of a workload; every workload has these parameters.

    clients: logical processes, each with one transaction at a time. rate: transactions per second over all
    clients. seconds: how long the load lasts. deadline: what a transaction may take. arrivals: "closed", a client
    thinks after each answer, for `clients / rate` seconds in the mean, so that a slow system is asked less; or
    "open", the moments at which transactions should start are drawn ahead at the given rate, a client that is late
    sends at once, and the history has the intended start too, since latency counts from there: a stall is then felt
    by every transaction that it kept waiting.
    """

    clients: int = 4
    rate: float = 60
    seconds: Duration = 10
    deadline: Duration = "1s"
    arrivals: Arrivals = "closed"

    @property
    def deadline_s(self) -> float:
        """Seconds that each transaction may take."""
        return seconds(self.deadline)

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter of the load that is out of range."""
        yield from self.bad_count("clients", 1, 256)
        yield from self.bad_number("rate", 0.1, 10_000)
        yield from self.bad_duration("seconds", low_s=0.1, high_s=86_400)
        yield from self.bad_duration("deadline", low_s=0.01, high_s=60)
        yield from self.bad_choice("arrivals", ARRIVALS)

    def to_config(self) -> dict[str, Any]:
        """Return every parameter as a plain JSON value, times in seconds."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.init}
        del named["deadline"]
        return {"kind": kind_of(type(self)), **named, "seconds": seconds(self.seconds), "deadline_s": self.deadline_s}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make the workload that `to_config` described; further keys are ignored, absent ones have their defaults."""
        known = {field.name for field in fields(cls) if field.init}
        named = {name: value for name, value in config.items() if name in known}
        return cls(**named, deadline=config["deadline_s"])


@dataclass(frozen=True, kw_only=True)
class Keys(Shape):
    """A load over numbered objects.

    keys: how many there are. skew: how unevenly they are chosen: object n has the weight 1 / (n + 1) ** skew, so 0 is
    uniform and 1 is Zipf's law, where the first of a thousand is touched by every eighth choice.
    """

    keys: int = 16
    skew: float = 0.0

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("keys", 1, 100_000)
        yield from self.bad_number("skew", 0.0, 5.0)

    def choose(self, rng: Random, count: int = 1) -> list[int]:
        """Draw `count` different objects, at most `keys`; all randomness comes from `rng`."""
        if self.skew == 0:
            return rng.sample(range(self.keys), min(count, self.keys))
        weights = list(accumulate(1 / (number + 1) ** self.skew for number in range(self.keys)))
        chosen: dict[int, None] = {}
        while len(chosen) < min(count, self.keys):
            chosen[rng.choices(range(self.keys), cum_weights=weights)[0]] = None
        return list(chosen)


def kind_of(workload: type[Shape]) -> str:
    """Return the name of a workload in configurations: its class in lower case, words joined by underscores."""
    name = workload.__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
