"""Metrics as a Prometheus text file, in the form that node_exporter's textfile collector reads.

Names end in their unit, as Prometheus asks for: `chaos_operation_seconds`, `chaos_operations_total`. OpenTelemetry's
names are in `chaos.metrics.opentelemetry`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_QUANTILES = (("0.5", "p50_ms"), ("0.95", "p95_ms"), ("0.99", "p99_ms"), ("1", "max_ms"))
_POOL_TOTALS = ("lent", "reused", "created", "discarded", "errors", "waits", "timeouts")
_POOL_STATES = ("in_use", "idle", "moving", "waiting")


def text(metrics: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Return `metrics.prom` for what `measure` returned; `labels` are put on each line (experiment, seed)."""
    lines = [*_operations(metrics["operations"], labels), *_resources(metrics.get("resources", {}), labels)]
    return "\n".join([*lines, *_pools(metrics.get("pools", []), labels)]) + "\n"


def _operations(operations: list[Mapping[str, Any]], labels: Mapping[str, str]) -> Iterator[str]:
    yield "# HELP chaos_operations_total Operations by how they ended; unknown ones may have taken effect."
    yield "# TYPE chaos_operations_total counter"
    for one in operations:
        for outcome, field in (("ok", "count"), ("error", "errors"), ("unknown", "unknown")):
            yield _line("chaos_operations_total", {**labels, **_named(one), "outcome": outcome}, one[field])
    yield "# HELP chaos_operation_seconds How long operations that succeeded took; exact quantiles."
    yield "# TYPE chaos_operation_seconds summary"
    for one in (one for one in operations if one["count"]):
        for share, field in _QUANTILES:
            yield _line("chaos_operation_seconds", {**labels, **_named(one), "quantile": share}, one[field] / 1000)
        total_s = one["mean_ms"] * one["count"] / 1000
        yield _line("chaos_operation_seconds_sum", {**labels, **_named(one)}, total_s)
        yield _line("chaos_operation_seconds_count", {**labels, **_named(one)}, one["count"])


def _named(one: Mapping[str, Any]) -> dict[str, str]:
    return {"store": one["store"], "operation": one["operation"]}


def _resources(resources: Mapping[str, Mapping[str, float]], labels: Mapping[str, str]) -> Iterator[str]:
    for name, values in sorted(resources.items()):
        metric = f"chaos_{name.removesuffix('_s')}_seconds" if name.endswith("_s") else f"chaos_{name}"
        yield f"# HELP {metric} The greatest value that was sampled in the run."
        yield f"# TYPE {metric} gauge"
        yield _line(metric, labels, values["max"])


def _pools(pools: list[Mapping[str, Any]], labels: Mapping[str, str]) -> Iterator[str]:
    if not pools:
        return
    yield "# HELP chaos_pool_connections Connections of a pool by what they were doing when it was last looked at."
    yield "# TYPE chaos_pool_connections gauge"
    for pool in pools:
        for state in _POOL_STATES:
            yield _line("chaos_pool_connections", {**labels, "pool": pool["name"], "state": state}, pool[state])
    for name in _POOL_TOTALS:
        metric = f"chaos_pool_{name}_total"
        yield f"# HELP {metric} See docs/reference/pools.md."
        yield f"# TYPE {metric} counter"
        for pool in pools:
            yield _line(metric, {**labels, "pool": pool["name"]}, pool[name])


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
    return f"{name}{{{told}}} {value:.9g}" if told else f"{name} {value:.9g}"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
