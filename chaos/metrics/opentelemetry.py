"""The same numbers under OpenTelemetry's names, for those who have its SDK (`pip install 'chaos-harness[metrics]'`).

The stable conventions for database clients name the duration `db.client.operation.duration`, in seconds, with the
attributes `db.system.name` and `db.operation.name`; an error has `error.type`. Pools are
`db.client.connection.count` by `db.client.connection.state`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chaos.metrics.recorder import Recorder

DURATION = "db.client.operation.duration"
CONNECTIONS = "db.client.connection.count"
SYSTEMS = {"sqlite": "sqlite", "redis": "redis", "graph": "other_sql", "all": "other_sql"}
"""Store to `db.system.name`; the conventions have no word for the graph engines."""


def attributes(store: str, operation: str) -> dict[str, str]:
    """Return the attributes of one operation."""
    return {"db.system.name": SYSTEMS.get(store, "other_sql"), "db.operation.name": operation}


def durations(recorder: Recorder) -> Iterator[tuple[float, dict[str, str]]]:
    """Yield each time in seconds with its attributes, in the form that a histogram's `record` takes."""
    for (store, operation), series in recorder.series.items():
        for took_s in series.took_s:
            yield took_s, attributes(store, operation)


def connections(pools: list[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield how many connections each pool has used and idle."""
    for pool in pools:
        for state, key in (("used", "in_use"), ("idle", "idle")):
            yield pool[key], {"db.client.connection.state": state, "db.client.connection.pool.name": pool["name"]}


def export(recorder: Recorder, pools: list[Mapping[str, Any]], meter: Any) -> None:
    """Record everything with an OpenTelemetry `meter`; whoever made it decides where it goes."""
    histogram = meter.create_histogram(DURATION, unit="s", description="Duration of database client operations.")
    for took_s, told in durations(recorder):
        histogram.record(took_s, told)
    counter = meter.create_up_down_counter(CONNECTIONS, unit="{connection}", description="Connections by state.")
    for count, told in connections(pools):
        counter.add(count, told)
