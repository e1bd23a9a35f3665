"""Cache sync below 100 ms at p99 and 200 ms at most, over SQLite and over the graph; consistency 100 %."""

from __future__ import annotations

import asyncio
import time

from paths import embedded

from chaos.backends.redis_server import RedisServer, find_server
from chaos.caches.cache import Cache, CacheSettings, Source, Versioned
from chaos.caches.sources import from_graph, from_sqlite
from chaos.metrics.quantiles import quantile
from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore

from .model import Figure, Options

NAMES = 50
READERS = 16


async def measure(options: Options) -> list[Figure]:
    """Measure twice: with the cache near, and with one that is slow to answer while readers are slow to fill."""
    near = await _with_stores(options, "near", far_s=0.0)
    far = await _with_stores(options, "far", far_s=0.01)
    return [*near, *far]


async def _with_stores(options: Options, name: str, *, far_s: float) -> list[Figure]:
    folder = options.folder / name
    (folder / "redis").mkdir(parents=True)
    server = RedisServer(find_server(), folder / "redis", folder / "redis.log")
    await server.start()
    async with embedded() as proxy:
        port = await proxy.proxies.add("redis", "127.0.0.1", server.port)
        if far_s:
            latency = {"delay_s": far_s, "jitter_s": far_s / 2, "side": "both"}
            await proxy.proxies.lever("redis").inject("f0", "network.latency", latency)
        redis = RedisStore("127.0.0.1", port, timeout_s=5, connections=32)
        sqlite = SQLiteStore(folder, readers=4)
        graph = GraphStore(folder, engine=options.graph, log=folder / "log", call_timeout_s=10)
        graph.open()
        try:
            await sqlite.open()
            await graph.wait_ready(30)
            return await _measured(redis, sqlite, graph, options.seconds, far_s)
        finally:
            await graph.close()
            await sqlite.close()
            await redis.close()
            await server.stop()


def _late(source: Source, delay_s: float) -> Source:
    """Return a source whose readings are as old as that when they are filled: the race that makes caches stale."""

    async def read(name: str) -> Versioned:
        found = await source(name)
        await asyncio.sleep(delay_s)
        return found

    return read


async def _measured(
    redis: RedisStore, sqlite: SQLiteStore, graph: GraphStore, seconds: float, far_s: float
) -> list[Figure]:
    async with sqlite.write() as transaction:
        await transaction.execute("CREATE TABLE commits(csn INTEGER PRIMARY KEY, token TEXT)")
        await transaction.execute("CREATE TABLE facts(name TEXT PRIMARY KEY, value INTEGER)")
        await transaction.commit()
    await graph.seed(("CREATE NODE TABLE IF NOT EXISTS Fact(id INT64, name STRING, value INT64, PRIMARY KEY(id))",), [])
    newest = "MATCH (f:Fact {name: $name}) RETURN f.value ORDER BY f.id DESC LIMIT 1"
    of_rows, of_facts = from_sqlite(sqlite, "SELECT value FROM facts WHERE name = ?"), from_graph(graph, newest)
    # With a far cache entries expire soon, so that there are misses, and fills that come late.
    settings = CacheSettings(ttl_s=0.4, negative_ttl_s=0.4, lease_s=0.2) if far_s else CacheSettings()
    rows = Cache(redis, _late(of_rows, 2 * far_s), prefix="rows", settings=settings)
    facts = Cache(redis, _late(of_facts, 2 * far_s), prefix="facts", settings=settings)
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
    where = f"Redis +{far_s * 1000:g} ms each way, slow fills" if far_s else "no fault"
    figures = []
    for what, cache in (("SQLite", rows), ("the graph", facts)):
        lags = sorted(cache.sync_lag_s)
        figures.append(
            Figure(f"sync over {what} p99, {READERS} readers, {where}", quantile(lags, 0.99) * 1000, 100, "ms")
        )
        figures.append(Figure(f"sync over {what} max, {where}", lags[-1] * 1000, 200, "ms"))
    told = f"reads that were not stale, of {reads}, {where}"
    return [*figures, Figure(told, 100 * (1 - stale / max(1, reads)), 100, "%", at_most=False)]
