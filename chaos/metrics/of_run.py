"""The metrics of a run, from its history alone: a stored run can be measured again.

Times of operations are the harness's, so they hold what a client waited. Under open-loop load one that was begun late
is timed from when it was due: else a stall would be measured once, and not by all who came meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from chaos.history.view import NS_PER_S, History, Operation
from chaos.metrics.quantiles import Series

SCHEMA = 1
SPANS = (
    ("sqlite", "commit", "sqlite.committing", "sqlite.committed"),
    ("redis", "apply", "redis.applying", "redis.applied"),
    ("graph", "apply", "graph.applying", "graph.applied"),
    ("redis", "sync_lag", "sqlite.committed", "redis.applied"),
    ("graph", "sync_lag", "sqlite.committed", "graph.applied"),
)
"""Store, operation, the phase that begins it and the one that ends it. A span without its end is not counted: it was
cut short, or its store was made again from the log."""


def measure(history: History) -> dict[str, Any]:
    """Return the content of `metrics.json`.

    operations: a summary by store and operation, "all" for whole transactions; timeline: those by the second;
    resources: by process, the first, last and greatest value of what was sampled; pools: each as it was last seen in
    the process that lent most from it (a run has several, one after the other).
    """
    series: defaultdict[tuple[str, str], Series] = defaultdict(Series)
    for operation in history.transactions.values():
        _take(series["all", "transact"], operation)
        for store, name, begun_ns, took_ns in _spans(operation):
            series[store, name].ok(begun_ns / NS_PER_S, took_ns / NS_PER_S)
    samples = [(entry.time_ns, entry.value) for entry in history.events("sample") if isinstance(entry.value, Mapping)]
    return {
        "schema": SCHEMA,
        "operations": [
            {"store": store, "operation": name, **one.summary().to_json()}
            for (store, name), one in sorted(series.items())
        ],
        "timeline": series["all", "transact"].timeline() if series else [],
        "resources": _resources([value for _, value in samples]),
        "pools": _pools([value for _, value in samples]),
        "samples": len(samples),
    }


def _take(series: Series, operation: Operation) -> None:
    value = operation.invoke.value
    late_ns = value.get("late_ns") if isinstance(value, Mapping) else None
    began_ns = max(0, operation.invoke.time_ns - (late_ns if isinstance(late_ns, int) else 0))
    if operation.kind == "ok" and operation.completion is not None:
        series.ok(began_ns / NS_PER_S, (operation.completion.time_ns - began_ns) / NS_PER_S)
    elif operation.kind == "fail":
        series.failed(began_ns / NS_PER_S)
    else:
        series.unknown(began_ns / NS_PER_S)


def _spans(operation: Operation) -> Iterator[tuple[str, str, int, int]]:
    """Yield store, name, beginning and length of each span; of repeated attempts the last beginning counts.

    What ended before it began is no span: a store that has a transaction before its commit does not lag behind it.
    """
    for store, name, first, last in SPANS:
        begun_ns = None
        for step in operation.steps:
            if step.f == first:
                begun_ns = step.time_ns
            elif step.f == last:
                if begun_ns is not None:
                    yield store, name, begun_ns, step.time_ns - begun_ns
                break


def _pools(samples: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    busiest: dict[str, Mapping[str, Any]] = {}
    for sample in samples:
        for pool in sample.get("pools", ()):
            if pool["lent"] >= busiest.get(pool["name"], pool)["lent"]:
                busiest[pool["name"]] = pool
    return [busiest[name] for name in sorted(busiest)]


def _resources(samples: list[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return first, last and greatest of each number that was sampled, under its name."""
    found: dict[str, dict[str, float]] = {}
    for sample in samples:
        for name, value in sample.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            one = found.setdefault(name, {"first": value, "last": value, "max": value})
            one["last"], one["max"] = value, max(one["max"], value)
    return found
