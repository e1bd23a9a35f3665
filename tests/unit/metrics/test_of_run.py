from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from chaos.history.model import Entry
from chaos.history.reader import read
from chaos.history.writer import HistoryWriter
from chaos.metrics import merging, opentelemetry, prometheus
from chaos.metrics.of_run import measure
from chaos.metrics.recorder import Recorder
from chaos.metrics.resources import LoopLag, descriptor_count, resident_bytes, size_bytes

MS = 1_000_000


def history_of(tmp_path: Path, lines: list[tuple[int, str, str, str | None, object]]) -> object:
    """Write entries (milliseconds, kind, f, token, value) and read them as a history."""
    import msgspec

    path = tmp_path / "history.jsonl"
    entries = [
        Entry(index=n, time_ns=ms * MS, kind=kind, f=f, token=token, value=value, process=0 if token else None)  # type: ignore[arg-type]
        for n, (ms, kind, f, token, value) in enumerate(lines)
    ]
    path.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries))
    return read(path)


def test_times_come_from_the_history(tmp_path: Path) -> None:
    """A transaction is timed from its invocation, its lag from the commit to each store; samples become resources."""
    pool = {"name": "sqlite.readers", "in_use": 1, "idle": 2, "moving": 0, "waiting": 0}
    pool |= dict.fromkeys(("lent", "reused", "created", "discarded", "errors", "waits", "timeouts"), 3)
    history = history_of(
        tmp_path,
        [
            (0, "event", "sample", None, {"worker_resident_bytes": 10, "event_loop_lag_s": 0.5, "pools": []}),
            (10, "invoke", "transact", "t0", {"mark": "m", "late_ns": 4 * MS}),
            (12, "step", "sqlite.committing", "t0", {"store": "sqlite", "syncs": None}),
            (15, "step", "sqlite.committed", "t0", {"store": "sqlite", "syncs": None}),
            (16, "step", "redis.applying", "t0", {"store": "redis", "syncs": None}),
            (17, "step", "redis.applying", "t0", {"store": "redis", "syncs": None}),
            (20, "step", "redis.applied", "t0", {"store": "redis", "syncs": None}),
            (30, "ok", "transact", "t0", {"csn": 1, "applied": True}),
            (31, "event", "sample", None, {"worker_resident_bytes": 30, "event_loop_lag_s": 0.1, "pools": [pool]}),
        ],
    )
    metrics = measure(history)  # type: ignore[arg-type]
    found = {(one["store"], one["operation"]): one["max_ms"] for one in metrics["operations"]}
    assert found == {
        ("all", "transact"): 24.0,
        ("sqlite", "commit"): 3.0,
        ("redis", "apply"): 3.0,
        ("redis", "sync_lag"): 5.0,
    }
    assert metrics["resources"]["worker_resident_bytes"] == {"first": 10, "last": 30, "max": 30}
    text = prometheus.text(metrics, {"experiment": 'a"b'})
    assert 'chaos_operation_seconds{experiment="a\\"b",store="redis",operation="apply",quantile="0.99"} 0.003' in text
    assert 'chaos_pool_connections{experiment="a\\"b",pool="sqlite.readers",state="idle"} 2' in text
    form = re.compile(r'# (HELP|TYPE) .+|[a-z_:]+(\{([a-z_]+="([^"\\]|\\.)*",?)+\})? [-+.0-9e]+')
    assert all(form.fullmatch(line) for line in text.splitlines())
    types = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


def test_a_store_that_had_it_before_the_commit_does_not_lag(tmp_path: Path) -> None:
    """Applied before the commit, and again when the server was filled anew: neither is a lag behind the commit."""
    history = history_of(
        tmp_path,
        [
            (10, "invoke", "transact", "t0", {"mark": "m"}),
            (11, "step", "redis.applying", "t0", {"store": "redis", "syncs": None}),
            (12, "step", "redis.applied", "t0", {"store": "redis", "syncs": None}),
            (13, "step", "sqlite.committing", "t0", {"store": "sqlite", "syncs": None}),
            (15, "step", "sqlite.committed", "t0", {"store": "sqlite", "syncs": None}),
            (16, "ok", "transact", "t0", {"csn": 1, "applied": True}),
            (90, "step", "redis.applied", "t0", {"store": "redis", "syncs": None}),
        ],
    )
    operations = measure(history)["operations"]  # type: ignore[arg-type]
    assert {(one["store"], one["operation"]) for one in operations} == {
        ("all", "transact"),
        ("redis", "apply"),
        ("sqlite", "commit"),
    }


def test_an_empty_history_measures_nothing(tmp_path: Path) -> None:
    """Nothing was done, nothing is told, and the text file is still one."""
    HistoryWriter(tmp_path / "history.jsonl").close()
    metrics = measure(read(tmp_path / "history.jsonl"))
    assert metrics["operations"] == metrics["timeline"] == []
    assert prometheus.text(metrics, {}).startswith("# HELP")


def test_merging_loses_a_thousandth() -> None:
    """Two halves, merged, have the quantiles of the whole to 0.1 %."""
    pytest.importorskip("hdrh")
    halves = [[n / 1000 for n in range(1, 1001)], [n / 1000 for n in range(1001, 2001)]]
    found = merging.merged([merging.histogram(half) for half in halves])
    assert found["count"] == 2000
    assert found["p99_ms"] == pytest.approx(1980, rel=0.002)


def test_opentelemetry_gets_its_own_names() -> None:
    """A meter, here one that keeps what it is told, hears durations in seconds and connections by state."""
    told: list[tuple[str, float, dict[str, str]]] = []

    class Instrument:
        def __init__(self, name: str) -> None:
            self.name = name

        def record(self, value: float, attributes: dict[str, str]) -> None:
            told.append((self.name, value, attributes))

        add = record

    class Meter:
        def create_histogram(self, name: str, **_: str) -> Instrument:
            return Instrument(name)

        create_up_down_counter = create_histogram

    recorder = Recorder()
    recorder.of("redis", "get").ok(0, 0.25)
    opentelemetry.export(recorder, [{"name": "redis.connections", "in_use": 1, "idle": 0}], Meter())
    assert told[0] == (
        "db.client.operation.duration",
        0.25,
        {"db.system.name": "redis", "db.operation.name": "get"},
    )
    assert [value for name, value, _ in told if name == "db.client.connection.count"] == [1, 0]


async def test_resources_of_this_process(tmp_path: Path) -> None:
    """Memory and descriptors are told, a process that is not there has none, and a blocked loop is seen."""
    before = descriptor_count()
    assert before is not None
    with (tmp_path / "file").open("wb") as file:
        file.write(b"12345")
        file.flush()
        assert descriptor_count() == before + 1
    assert (size_bytes(tmp_path / "file"), size_bytes(tmp_path / "none")) == (5, 0)
    assert (resident_bytes() or 0) > 1_000_000
    assert resident_bytes(2**22 + os.getpid()) is None
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(0)
    end = asyncio.get_running_loop().time() + 0.3
    while asyncio.get_running_loop().time() < end:
        pass  # the loop is held up on purpose
    async with asyncio.timeout(5):
        while (worst := lag.take()) < 0.1:
            await asyncio.sleep(0.01)
    assert worst < 5
    await lag.stop()
