"""Cache sync below 100 ms at p99 and 200 ms at most, over SQLite and over the graph; consistency 100 %."""

from __future__ import annotations

import asyncio
import time

from chaos.backends.redis_server import RedisServer, find_server
from chaos.caches.cache import Cache
from chaos.caches.sources import from_graph, from_sqlite
from chaos.metrics.quantiles import quantile
from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore

from .model import Figure, Group, Options

NAMES = 50
READERS = 16


def measurer(engine: str) -> Group:
    """Return the group with the graph of one engine."""

    async def measure(options: Options) -> list[Figure]:
        (options.folder / "redis").mkdir()
        server = RedisServer(find_server(), options.folder / "redis", options.folder / "redis.log")
        await server.start()
        redis = RedisStore("127.0.0.1", server.port, timeout_s=5, connections=32)
        sqlite = SQLiteStore(options.folder, readers=4)
        graph = GraphStore(options.folder, engine=engine, log=options.folder / "log", call_timeout_s=10)
        graph.open()
        try:
            await sqlite.open()
            await graph.wait_ready(30)
            return await _measured(redis, sqlite, graph, options.seconds)
        finally:
            await graph.close()
            await sqlite.close()
            await redis.close()
            await server.stop()

    return measure


async def _measured(redis: RedisStore, sqlite: SQLiteStore, graph: GraphStore, seconds: float) -> list[Figure]:
    async with sqlite.write() as transaction:
        await transaction.execute("CREATE TABLE commits(csn INTEGER PRIMARY KEY, token TEXT)")
        await transaction.execute("CREATE TABLE facts(name TEXT PRIMARY KEY, value INTEGER)")
        await transaction.commit()
    await graph.seed(("CREATE NODE TABLE IF NOT EXISTS Fact(id INT64, name STRING, value INT64, PRIMARY KEY(id))",), [])
    newest = "MATCH (f:Fact {name: $name}) RETURN f.value ORDER BY f.id DESC LIMIT 1"
    rows = Cache(redis, from_sqlite(sqlite, "SELECT value FROM facts WHERE name = ?"), prefix="rows")
    facts = Cache(redis, from_graph(graph, newest), prefix="facts")
    end_s = time.monotonic() + seconds
    stale, reads, csn = 0, 0, 0
    floor: dict[str, int] = {}

    async def commit() -> None:
        nonlocal csn
        while time.monotonic() < end_s:
            csn += 1
            name, value = f"n{csn % NAMES}", csn
            async with sqlite.write() as transaction:
                await transaction.execute("INSERT INTO commits VALUES (?, '')", (csn,))
                await transaction.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
                await transaction.commit()
            committed_s = time.monotonic()
            made = ("CREATE (:Fact {id: $id, name: $name, value: $id})", {"id": csn, "name": name})
            await asyncio.gather(
                rows.apply(csn, {name: f"[{value}]"}, committed_s=committed_s),
                graph.apply(csn, csn - 1, "", [made]),
            )
            await facts.apply(csn, {name: f"[{value}]"}, committed_s=committed_s)
            floor[name] = csn

    async def read(number: int) -> None:
        nonlocal stale, reads
        while time.monotonic() < end_s:
            name = f"n{(number + reads) % NAMES}"
            least = floor.get(name, 0)
            for cache in (rows, facts):
                stale += (await cache.get(name)).csn < least
                reads += 1

    await asyncio.gather(commit(), *(read(number) for number in range(READERS)))
    figures = []
    for what, cache in (("SQLite", rows), ("the graph", facts)):
        lags = sorted(cache.sync_lag_s)
        figures.append(Figure(f"sync over {what} p99, {READERS} readers", quantile(lags, 0.99) * 1000, 100, "ms"))
        figures.append(Figure(f"sync over {what} max", lags[-1] * 1000, 200, "ms"))
    return [*figures, Figure("reads that were not stale", 100 * (1 - stale / max(1, reads)), 100, "%", at_most=False)]
