"""Figures from whole runs of the harness: an experiment with faults, and what its history and its checks tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos import Experiment, Guards, Limits, Recovery, checks, stores
from chaos.errors import HarnessError
from chaos.experiment.plan import resolve
from chaos.experiment.schedule import Rule
from chaos.history.reader import read
from chaos.history.view import NS_PER_S, History, Operation
from chaos.metrics.quantiles import quantile
from chaos.runner.api import RunOptions, run

from .model import Figure, Options

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())
CHECKS = tuple(check for check in checks.standard() if check.name != "landed")


@dataclass(frozen=True)
class Seen:
    """One run: its history, and the details of each check by name. `broken`: what did not hold, in words."""

    history: History
    details: dict[str, dict[str, Any]]
    broken: tuple[str, ...]

    @property
    def sent(self) -> Sequence[Operation]:
        """The transactions of the load; the few that the harness's own probes send have no client."""
        return [one for one in self.history.transactions.values() if (one.token or "").startswith("c")]


async def seen(
    options: Options, name: str, workload: Any, schedule: Sequence[Rule] = (), *, seed: int = 1, wall: str = "300s"
) -> Seen:
    """Run an experiment in this process's harness and read what it left.

    Raises HarnessError when it did not come to its checks, or when a fault that was to threaten the figure never did
    anything: a figure beside a fault that was not there would say nothing.
    """
    experiment = Experiment(
        id=name,
        hypothesis="What the specification requires holds.",
        stores=STORES,
        workload=workload,
        schedule=schedule,
        recovery=Recovery(budget="10s", hold="500ms"),
        guards=Guards(before=1, during=0, after=1),
        limits=Limits(wall=wall),
    )
    plan = resolve(experiment, seed, Path(__file__))
    result = await run(plan, RunOptions(seed=seed, out=options.folder, graph=options.graph))
    if result.folder is None or not result.verdicts:
        raise HarnessError(f"{name}, seed {seed}: {result.verdict}: {result.message}")
    details = {verdict.name: dict(verdict.details) for verdict in result.verdicts}
    [landed] = [verdict for verdict in result.verdicts if verdict.name == "landed"]
    if schedule and landed.valid != "valid":
        raise HarnessError(f"{name}, seed {seed}: {landed.summary}")
    broken = [f"{one.name}: {one.summary}" for one in result.verdicts if one.valid != "valid" and one is not landed]
    return Seen(read(result.folder / "history.jsonl"), details, tuple(broken))


def latencies_ms(operations: Iterable[Operation]) -> list[float]:
    """Return what the acknowledged of `operations` took, ascending; those begun late count from when they were due."""
    return sorted(_took_ms(one) for one in operations if one.kind == "ok")


def p99(what: str, operations: Iterable[Operation], limit_ms: float) -> Figure:
    """Return the 0.99 of what was acknowledged, counted from the intended start, as a figure."""
    return Figure(f"{what} p99", quantile(latencies_ms(operations) or [float("inf")], 0.99), limit_ms, "ms")


def kept(what: str, runs: Iterable[Seen]) -> Figure:
    """Return how many checks of the harness did not hold, which must be none; they are named with the figure."""
    broken = [sentence for one in runs for sentence in one.broken]
    told = f" ({'; '.join(broken):.200})" if broken else ""
    return Figure(f"{what}, checks that do not hold{told}", len(broken), 0, "")


def during_faults(one: Seen) -> Iterator[Operation]:
    """Yield the transactions that were sent while a fault held, or within the second after one that struck at once."""
    spans = [
        (fault.begin_ns, fault.end_ns if fault.lasting and fault.end_ns is not None else fault.begin_ns + NS_PER_S)
        for fault in one.history.faults
    ]
    for operation in one.sent:
        if any(low <= operation.invoke.time_ns <= high for low, high in spans):
            yield operation


def completed(one: Seen, operation: Operation) -> bool:
    """Tell whether a transaction happened: it was acknowledged, or recovery found it committed."""
    return operation.kind == "ok" or one.history.resolved(operation.token or "") == "committed"


def _took_ms(operation: Operation) -> float:
    assert operation.completion is not None
    value = operation.invoke.value
    late_ns = value.get("late_ns", 0) if isinstance(value, dict) else 0
    return (operation.completion.time_ns - operation.invoke.time_ns + late_ns) / 1e6
