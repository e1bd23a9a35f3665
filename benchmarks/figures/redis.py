"""Redis: operations below 50 ms at p95 with 100 connections, pipelines below 100 ms, 100 a second, 2 MB each."""

from __future__ import annotations

from random import Random

from chaos.backends.redis_server import RedisServer, find_server
from chaos.metrics.resources import resident_bytes
from chaos.stores.pool_model import PoolSettings
from chaos.stores.redis import RedisStore

from .model import MEGABYTE, Figure, Options, closed_loop, of

CONNECTIONS = 100
KEYS = 1000


async def measure(options: Options) -> list[Figure]:
    """A server that syncs each write; connections are made before the clock runs."""
    (options.folder / "redis").mkdir()
    server = RedisServer(find_server(), options.folder / "redis", options.folder / "redis.log")
    child = await server.start()
    pool = PoolSettings(min_size=CONNECTIONS, max_size=CONNECTIONS, acquire_timeout_s=30)
    store = RedisStore("127.0.0.1", server.port, timeout_s=10, pool=pool)
    before = (resident_bytes() or 0) + (resident_bytes(child.pid) or 0)
    try:
        await store.open()

        async def write(random: Random) -> None:
            await store.execute("SET", f"k{random.randrange(KEYS)}", "v" * 100)

        async def read(random: Random) -> None:
            await store.execute("GET", f"k{random.randrange(KEYS)}")

        async def put(random: Random) -> None:
            await store.execute("HSET", f"h{random.randrange(KEYS)}", "name", "v", "count", random.randrange(9))

        async def pipe(random: Random) -> None:
            await store.pipeline([("SET", f"p{random.randrange(KEYS)}", "v") for _ in range(10)])

        singles = [("redis", "SET", write), ("redis", "GET", read), ("redis", "HSET", put)]
        single, rate = await closed_loop(CONNECTIONS, options.seconds, singles)
        piped, _ = await closed_loop(CONNECTIONS, options.seconds, [("redis", "pipeline of 10", pipe)])
        after = (resident_bytes() or 0) + (resident_bytes(child.pid) or 0)
    finally:
        await store.close()
        await server.stop()
    return [
        *(of(single, "redis", name, 0.95, 50, CONNECTIONS) for _, name, _ in singles),
        of(piped, "redis", "pipeline of 10", 0.95, 100, CONNECTIONS),
        Figure("operations per second", rate, 100, "/s", at_most=False),
        Figure("memory per connection, both sides", (after - before) / CONNECTIONS / MEGABYTE, 2, "MB"),
    ]
