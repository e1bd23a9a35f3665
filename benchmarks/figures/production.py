"""The load that counts as production here, and the faults that threaten its figures.

64 clients who come at moments drawn ahead, 100 transactions a second together, whether or not the ones before them have
been answered; latency counts from the moment that was drawn.
"""

from __future__ import annotations

from typing import Any

from chaos import faults, when, workload
from chaos.experiment.schedule import Rule

CLIENTS = 64
RATE = 100.0


def transfers(seconds: float) -> Any:
    """Return transfers that are never refused for lack of money, half of which read Redis first."""
    return workload.Transfers(
        accounts=256,
        initial=1_000_000,
        clients=CLIENTS,
        rate=RATE,
        seconds=seconds,
        deadline="5s",
        arrivals="open",
    )


def registrations(seconds: float) -> Any:
    """Return registrations none of which is refused for an address that is in use."""
    return workload.Registration(
        founders=64, taken=0.0, clients=CLIENTS, rate=RATE, seconds=seconds, deadline="5s", arrivals="open"
    )


def slow(seconds: float) -> tuple[Rule, ...]:
    """Return slowness for nearly all of the load: Redis is far away, and the disk of SQLite is slow to sync."""
    return (
        when.at("500ms")
        .do(faults.Latency("redis", "20ms", jitter="10ms"), faults.DiskDelay("sqlite", "20ms"))
        .heal(after=seconds - 1.0),
    )


def outages(seconds: float) -> tuple[Rule, ...]:
    """Return one failure of each process, and a cut of the network, spread over a load of at least ten seconds."""
    part = seconds / 5
    return (
        when.at(part * 0.5).do(faults.Partition("redis")).heal(after="700ms"),
        when.at(part * 1.5).do(faults.Kill("graph")),
        when.at(part * 2.5).do(faults.Kill("worker")),
        when.at(part * 3.5).do(faults.Kill("redis")).heal(after="700ms"),
    )
