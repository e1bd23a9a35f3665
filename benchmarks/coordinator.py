"""What a coordinated transaction costs beside three commits in turn: `python benchmarks/coordinator.py`.

The same work for each: one key, written to all three stores. The arms take turns within each round, so that a slow
moment of the machine hits all of them; ratios are medians over the rounds of one round's own ratio. SQLite syncs at
every commit, so does Redis (appendfsync always), and so does the graph. No harness is involved.

Arms: naive (the control: SQLite, then Redis, then the graph), redo acknowledged when applied, redo acknowledged when
durable, epoxy (Redis and the graph, then SQLite). Prints throughput, latency, SQLite's syncs for each transaction, and
the goals, met or missed by how much.
Exit code 1 with --strict when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos import transactions
from chaos.backends.redis_server import RedisServer, find_server

NAMES = ("naive", "applied", "durable", "epoxy")
KEYS = 1_000
GOALS = {("applied", 1): 0.85, ("applied", 16): 4.0, ("applied", 64): 8.0}
GOALS |= {("epoxy", 1): 0.75, ("epoxy", 16): 2.25, ("epoxy", 64): 5.7}
GOALS |= {("durable", 1): 1.7, ("durable", 16): 6.0, ("durable", 64): 14.0}
SCHEMA = transactions.Genesis(
    sqlite_schema=("CREATE TABLE IF NOT EXISTS items(id INTEGER PRIMARY KEY, value INTEGER NOT NULL)",),
    graph_schema=("CREATE NODE TABLE IF NOT EXISTS Event(id STRING, value INT64, PRIMARY KEY(id))",),
    rows=transactions.Writes(sqlite=tuple(("INSERT INTO items VALUES (?, 0)", (n,)) for n in range(KEYS))),
)


@dataclass(frozen=True)
class Arm:
    """A coordinator that is open, and what to call it."""

    name: str
    coordinator: Any
    folder: Path


@dataclass(frozen=True)
class Figures:
    """One stretch of load: transactions for each second, milliseconds, syncs of SQLite's log for each transaction."""

    rate: float
    p50_ms: float
    p99_ms: float
    syncs: float


async def main() -> int:
    """Measure and print; return the exit code."""
    options = _options()
    print(f"{options.engine}, {options.rounds} rounds of {options.seconds:g} s for each arm and number of clients")
    found: dict[tuple[str, int], list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="chaos-coordinator-") as root:
        async with AsyncExitStack() as stack:
            arms = [await _open(stack, name, Path(root), options.engine) for name in NAMES]
            for number in range(-1, options.rounds):  # the first one warms up
                for clients, arm in itertools.product(options.clients, arms):
                    figures = await _load(arm, clients, options.seconds if number >= 0 else 0.3)
                    if number >= 0:
                        found.setdefault((arm.name, clients), []).append(figures)
    return _report(found, options.clients) and int(options.strict)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", default="ladybug", choices=("kuzu", "ladybug"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--strict", action="store_true")
    return parser.parse_args()


async def _open(stack: AsyncExitStack, name: str, root: Path, engine: str) -> Arm:
    folder = root / name
    (folder / "redis").mkdir(parents=True)
    server = RedisServer(find_server(), folder / "redis", folder / "redis.log", appendfsync="always")
    await server.start()
    stack.push_async_callback(server.stop)
    coordinator = await stack.enter_async_context(
        transactions.open(
            folder,
            redis=("127.0.0.1", server.port),
            schema=SCHEMA,
            engine=engine,
            arm="naive" if name == "naive" else "epoxy" if name == "epoxy" else "redo",
            acknowledge="durable" if name == "durable" else "applied",
        )
    )
    return Arm(name, coordinator, folder)


async def _load(arm: Arm, clients: int, seconds: float) -> Figures:
    """Let so many clients work, each one transaction after the other, for so long."""
    latencies: list[float] = []
    began = time.perf_counter()
    before = _syncs(arm)
    await asyncio.gather(*(_client(arm, number, began + seconds, latencies) for number in range(clients)))
    took = time.perf_counter() - began
    latencies.sort()
    return Figures(
        rate=len(latencies) / took,
        p50_ms=1e3 * latencies[len(latencies) // 2],
        p99_ms=1e3 * latencies[int(len(latencies) * 0.99)],
        syncs=(_syncs(arm) - before) / len(latencies),
    )


async def _client(arm: Arm, number: int, end: float, latencies: list[float]) -> None:
    for count in itertools.count():
        began = time.perf_counter()
        if began >= end:
            return
        key = (number * 131 + count) % KEYS
        async with arm.coordinator.transaction(deadline_s=30.0) as txn:
            txn.sqlite.execute("UPDATE items SET value = value + ? WHERE id = ?", (1, key))
            txn.redis.command("INCRBY", f"item:{key}", 1)
            txn.graph.execute("CREATE (:Event {id: $id, value: $value})", {"id": txn.token, "value": key})
        latencies.append(time.perf_counter() - began)


def _syncs(arm: Arm) -> int:
    """Return how many transactions SQLite was asked to commit: with synchronous=FULL each is one sync of the log."""
    return int(arm.coordinator.sqlite_commits)


def _report(found: dict[tuple[str, int], list[Figures]], clients: list[int]) -> bool:
    """Print everything; return whether a goal was missed."""
    missed = False
    for count in clients:
        base = found["naive", count]
        for name in NAMES:
            mine = found[name, count]
            ratio = statistics.median(one.rate / other.rate for one, other in zip(mine, base, strict=True))
            goal = GOALS.get((name, count))
            verdict = "" if goal is None else f"  goal {goal:5.2f}: {'met' if ratio >= goal else 'MISSED'}"
            missed = missed or (goal is not None and ratio < goal)
            middle = {
                field: statistics.median(getattr(one, field) for one in mine)
                for field in ("rate", "p50_ms", "p99_ms", "syncs")
            }
            print(
                f"{count:3d} clients  {name:8s} {middle['rate']:8.0f}/s  p50 {middle['p50_ms']:7.2f} ms"
                f"  p99 {middle['p99_ms']:7.2f} ms  {middle['syncs']:5.3f} syncs each  x{ratio:5.2f}{verdict}"
            )
    return missed


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
