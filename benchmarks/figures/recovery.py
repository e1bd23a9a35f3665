"""Recovery from every kind of failure: below 10 s, and the goal, 2 s at p95, from the end of the fault.

What is measured is the check `recovered`'s first commit: from the moment when a fault is healed, or struck if it does
not last, to the acknowledgement, in every store, of a transaction that was sent after it. The moments of the faults are
drawn within half a second by the seed.
"""

from __future__ import annotations

from collections.abc import Sequence

from chaos import faults, when, workload
from chaos.experiment.schedule import Rule
from chaos.faults.base import Fault
from chaos.metrics.quantiles import quantile

from .model import Figure, Options
from .runs import Seen, kept, seen

LIMIT_S = 10.0
GOAL_S = 2.0
_APART_S = 3.0
_HELD = "1s"

CATALOGUE: dict[str, Sequence[Fault]] = {
    "network": (
        faults.Partition("redis"),
        faults.Partition("redis", side="reply"),
        faults.Partition("redis", side="request", mode="stall"),
        faults.Disconnect("redis", how="rst"),
        faults.Refuse("redis"),
    ),
    "slow-network": (
        faults.Latency("redis", "200ms", jitter="50ms"),
        faults.Bandwidth("redis", 20_000),
        faults.Loss("redis", 0.2),
        faults.Flapping("redis", up="150ms", down="150ms"),
    ),
    "processes": (
        faults.Kill("worker"),
        faults.Kill("redis"),
        faults.Kill("graph"),
        faults.Pause("worker"),
        faults.Pause("redis"),
        faults.Pause("graph"),
    ),
    "disk": (
        faults.DiskFull("sqlite"),
        faults.DiskFull("redis"),
        faults.DiskFull("graph"),
        faults.DiskError("sqlite", error="EIO", call="sync", path="*-wal"),
        faults.DiskDelay("sqlite", "100ms"),
        faults.FsyncFails("graph"),
    ),
    "power": (faults.PowerLoss("posix"), faults.PowerLoss("ordered"), faults.PowerLoss("random")),
}
"""Faults by experiment, one after the other."""

_POINTS = ("Disconnect", "PowerLoss")


async def measure(options: Options) -> list[Figure]:
    """Run each experiment with each seed; first one without a fault, which tells what a start takes."""
    calm = await seen(options, "calm", _load(2.0))
    runs: dict[str, list[Seen]] = {}
    for name, struck in CATALOGUE.items():
        schedule = tuple(_rule(number, fault) for number, fault in enumerate(struck))
        load = _load(_APART_S * len(struck) + 2.0)
        runs[name] = [await seen(options, name, load, schedule, seed=seed) for seed in range(1, options.seeds + 1)]
    times = {name: [one for run in some for one in _first_commits(run)] for name, some in runs.items()}
    every = sorted(value for some in times.values() for _, value in some)
    started = [entry.value["seconds"] for entry in calm.history.events("worker_opened")]
    return [
        Figure("start of a worker, no fault, max", max(started), LIMIT_S, "s"),
        *(_worst(name, some) for name, some in times.items()),
        Figure(f"all {len(every)} faults, p95 (the goal)", quantile(every, 0.95), GOAL_S, "s"),
        kept("all", [run for some in runs.values() for run in some]),
    ]


def _worst(name: str, times: Sequence[tuple[str, float]]) -> Figure:
    kind, value = max(times, key=lambda one: one[1])
    return Figure(f"{name}: slowest of {len(times)} ({kind})", value, LIMIT_S, "s")


def _first_commits(run: Seen) -> list[tuple[str, float]]:
    """Return kind and recovery of each fault; one after which nothing was committed has never recovered."""
    lines = run.details["recovered"]["faults"]
    return [
        (line["kind"], float("inf") if line["first_commit_s"] is None else line["first_commit_s"]) for line in lines
    ]


def _rule(number: int, fault: Fault) -> Rule:
    begin_s = 1.0 + _APART_S * number
    rule = when.random(between=(begin_s, begin_s + 0.5)).do(fault)
    is_point = type(fault).__name__ in _POINTS or (isinstance(fault, faults.Kill) and fault.target != "redis")
    return rule if is_point else rule.heal(after=_HELD)


def _load(seconds: float) -> workload.Transfers:
    return workload.Transfers(
        accounts=64, initial=100_000, clients=8, rate=60, seconds=seconds, deadline="1s", arrivals="open"
    )
