"""Memory of all processes under mixed load: below 500 MB, and flat. The specification's length: `--seconds 600`."""

from __future__ import annotations

import asyncio
import itertools
import time
from random import Random
from statistics import linear_regression, median

from chaos.backends.redis_server import RedisServer, find_server
from chaos.metrics.resources import resident_bytes
from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore

from .model import MEGABYTE, Figure, Group, Options, closed_loop

USERS = 32
_SAMPLES_PER_S = 5


def measurer(engine: str) -> Group:
    """Return the group with one engine."""

    async def measure(options: Options) -> list[Figure]:
        (options.folder / "redis").mkdir()
        server = RedisServer(find_server(), options.folder / "redis", options.folder / "redis.log")
        child = await server.start()
        pids: list[int | None] = []
        redis = RedisStore("127.0.0.1", server.port, timeout_s=5)
        sqlite = SQLiteStore(options.folder)
        graph = GraphStore(
            options.folder, engine=engine, log=options.folder / "log", call_timeout_s=10, on_child=pids.append
        )
        graph.open()
        try:
            await sqlite.open()
            await graph.wait_ready(30)
            return await _measured(redis, sqlite, graph, [None, child.pid, pids[-1]], options.seconds)
        finally:
            await graph.close()
            await sqlite.close()
            await redis.close()
            await server.stop()

    return measure


async def _measured(
    redis: RedisStore, sqlite: SQLiteStore, graph: GraphStore, pids: list[int | None], seconds: float
) -> list[Figure]:
    await graph.seed(("CREATE NODE TABLE IF NOT EXISTS Thing(id INT64, PRIMARY KEY(id))",), [])
    async with sqlite.write() as transaction:
        await transaction.execute("CREATE TABLE things(id INTEGER PRIMARY KEY, value INTEGER)")
        await transaction.commit()
    numbers = itertools.count(1)

    async def write_row(random: Random) -> None:
        async with sqlite.write() as transaction:
            await transaction.execute("INSERT OR REPLACE INTO things VALUES (?, 1)", (random.randrange(1000),))
            await transaction.commit()
        await sqlite.checkpoint_if_due()

    async def write_node(_: Random) -> None:
        await graph.write([("CREATE (:Thing {id: $id})", {"id": next(numbers)})])

    async def read(random: Random) -> None:
        key = random.randrange(1000)
        await redis.execute("SET", f"k{key}", "v" * 100)
        await sqlite.fetch("SELECT value FROM things WHERE id = ?", (key,))
        await graph.query("MATCH (t:Thing {id: $id}) RETURN t.id", {"id": key})

    operations = [("all", "row", write_row), ("all", "node", write_node), *[("all", "read", read)] * 6]
    await closed_loop(USERS, min(5.0, seconds), operations)
    load = asyncio.create_task(closed_loop(USERS, seconds, operations))
    times, sizes = [], []
    while not load.done():
        times.append(time.monotonic() / 60)
        sizes.append(sum(resident_bytes(pid) or 0 for pid in pids) / MEGABYTE)
        await asyncio.sleep(1 / _SAMPLES_PER_S)
    _, rate = await load
    third = max(1, len(sizes) // 3)
    growth = median(sizes[-third:]) - median(sizes[:third])
    slope = linear_regression(times, sizes).slope if len(sizes) > 2 else 0.0
    return [
        Figure(f"resident memory of all processes, {rate:.0f} operations/s", max(sizes), 500, "MB"),
        Figure(f"growth in {seconds:g} s (slope {slope:.1f} MB a minute)", growth, 20, "MB"),
    ]
