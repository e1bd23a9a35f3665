"""The report's table of times, and what the processes used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chaos.history.view import History
from chaos.metrics.of_run import measure
from chaos.report.layout import heading, paragraph, table

_HEAD = ("store", "operation", "count", "failed", "unknown", "p50 ms", "p95 ms", "p99 ms", "max ms")
_NAMES = {
    "worker_resident_bytes": "memory of the system's process",
    "graph_resident_bytes": "memory of the graph's process",
    "wal_bytes": "SQLite's log",
}
_MEGABYTE = 1_000_000


def measured(history: History) -> Iterator[str]:
    """Yield the section; nothing when there was no transaction. Without samples only times are told."""
    metrics = measure(history)
    if not metrics["operations"]:
        return
    yield from heading("Times")
    yield from table(_HEAD, [_row(one) for one in metrics["operations"]])
    yield from _resources(metrics["resources"])
    yield from _pools(metrics["pools"])


def _row(one: Mapping[str, Any]) -> list[str]:
    times = (one["p50_ms"], one["p95_ms"], one["p99_ms"], one["max_ms"])
    counts = (one["count"], one["errors"], one["unknown"])
    return [one["store"], one["operation"], *map(str, counts), *("-" if t is None else f"{t:.1f}" for t in times)]


def _resources(resources: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for name, what in _NAMES.items():
        if name in resources:
            first, last, greatest = (resources[name][key] / _MEGABYTE for key in ("first", "last", "max"))
            yield from paragraph(f"{what}: {first:.1f} MB first, {last:.1f} MB last, {greatest:.1f} MB at most", "  ")
    if "event_loop_lag_s" in resources:
        yield from paragraph(f"event loop: {resources['event_loop_lag_s']['max'] * 1000:.0f} ms late at most", "  ")


def _pools(pools: list[Mapping[str, Any]]) -> Iterator[str]:
    for pool in (pool for pool in pools if pool["lent"]):
        text = f"{pool['name']}: {pool['lent']} lent, {pool['peak_in_use']} at once at most, {pool['waits']} waited"
        if pool["waits"]:
            text += f" ({pool['wait_s_max'] * 1000:.0f} ms at most)"
        text += f", {pool['timeouts']} given up, {pool['errors']} errors"
        yield from paragraph(text, "  ", "    ")
