"""Coordinated transactions: below 500 ms at p99 with 64 clients, and above 95 % successful under production load."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter

from chaos import transactions
from chaos.backends.redis_server import RedisServer, find_server
from chaos.history.view import Operation
from chaos.metrics.quantiles import quantile

from .model import Figure, Options
from .production import CLIENTS, RATE, outages, slow, transfers
from .runs import Seen, kept, p99, seen

KEYS = 1000
LIMIT_MS = 500.0
SCHEMA = transactions.Genesis(
    sqlite_schema=("CREATE TABLE IF NOT EXISTS items(id INTEGER PRIMARY KEY, value INTEGER NOT NULL)",),
    graph_schema=("CREATE NODE TABLE IF NOT EXISTS Event(id STRING, value INT64, PRIMARY KEY(id))",),
    rows=transactions.Writes(sqlite=tuple(("INSERT INTO items VALUES (?, 0)", (n,)) for n in range(KEYS))),
)


async def latency(options: Options) -> list[Figure]:
    """Measure as fast as 64 clients can go, then at production load, then with slow stores."""
    full = await _full_speed(options)
    calm = await seen(options, "calm", transfers(options.seconds))
    hurt = await seen(options, "slow", transfers(options.seconds + 2), slow(options.seconds + 2))
    return [
        full,
        p99(f"{CLIENTS} clients, {RATE:g}/s, no fault", calm.sent, LIMIT_MS),
        p99(f"{CLIENTS} clients, {RATE:g}/s, Redis +20 ms, syncs +20 ms", hurt.sent, LIMIT_MS),
        kept("both", (calm, hurt)),
    ]


async def success(options: Options) -> list[Figure]:
    """Measure at production load without a fault, and with a failure of each process and a cut of the network."""
    seconds = max(20.0, options.seconds)
    calm = await seen(options, "calm", transfers(options.seconds))
    hurt = await seen(options, "outages", transfers(seconds), outages(seconds))
    return [_share("no fault", calm), _share(f"4 outages in {seconds:g} s", hurt), kept("both", (calm, hurt))]


def _share(what: str, run: Seen) -> Figure:
    """Return the share of those that succeeded; in doubt is neither success nor failure, and is told apart."""
    kinds = Counter(operation.kind for operation in run.sent)
    decided = kinds["ok"] + kinds["fail"]
    why = Counter(_reason(operation) for operation in run.sent if operation.kind == "fail").most_common(1)
    mostly = f", mostly {why[0][0]}" if why else ""
    told = f"success, {what} ({kinds['fail']} of {decided} failed{mostly}; {kinds['info']} in doubt, apart)"
    return Figure(told, 100 * kinds["ok"] / max(1, decided), 95, "%", at_most=False)


def _reason(operation: Operation) -> str:
    """Return the beginning of why a transaction failed, without its numbers, so that like reasons are alike."""
    error = (operation.completion.error if operation.completion else None) or "no reason"
    return re.sub(r"\d+", "#", error.partition(": ")[2] or error)[:60]


async def _full_speed(options: Options) -> Figure:
    """Let 64 clients of the library work without a pause, no harness between."""
    (options.folder / "redis").mkdir()
    server = RedisServer(find_server(), options.folder / "redis", options.folder / "redis.log")
    await server.start()
    took_ms: list[float] = []
    try:
        async with transactions.open(
            options.folder / "library", redis=("127.0.0.1", server.port), schema=SCHEMA, engine=options.graph
        ) as coordinator:
            end_s = time.perf_counter() + options.seconds

            async def client(number: int) -> None:
                for count in itertools.count():
                    began_s = time.perf_counter()
                    if began_s >= end_s:
                        return
                    key = (number * 131 + count) % KEYS
                    async with coordinator.transaction(deadline_s=30.0) as txn:
                        txn.sqlite.execute("UPDATE items SET value = value + ? WHERE id = ?", (1, key))
                        txn.redis.command("INCRBY", f"item:{key}", 1)
                        txn.graph.execute("CREATE (:Event {id: $id, value: $value})", {"id": txn.token, "value": key})
                    took_ms.append((time.perf_counter() - began_s) * 1000)

            await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    finally:
        await server.stop()
    rate = len(took_ms) / options.seconds
    return Figure(
        f"{CLIENTS} clients without a pause ({rate:.0f}/s) p99", quantile(sorted(took_ms), 0.99), LIMIT_MS, "ms"
    )
