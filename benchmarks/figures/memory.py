"""Memory of all processes under sustained load: below 500 MB, and flat. The specification's length: ten minutes.

The load is the coordinator's: reads of one snapshot, writes to SQLite and Redis, and some to the graph as well, which
only ever grows. The slope is that of a straight line through the last two thirds of the samples, and growth compares
the medians of these two, for each process too: what is bounded by design (the engine's buffer pool, the coordinator's
window of recent commits) fills in the first. Once without a fault, and, for a fifth of the time, with stores that are
killed every few seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from random import Random
from statistics import linear_regression, median

from chaos import transactions
from chaos.backends.redis_server import RedisServer, find_server
from chaos.errors import TransactionError
from chaos.metrics.resources import resident_bytes
from chaos.transactions.local_site import QuietSite
from chaos.transactions.system import SiteConfig

from .coordinated import KEYS, SCHEMA
from .model import MEGABYTE, Figure, Options, closed_loop

USERS = 32
_SAMPLES_PER_S = 2
_WARM_S = 10.0
_KILLED_EVERY_S = 3.0


class _Site(QuietSite):
    """Knows the process of the graph."""

    graph_pid: int | None = None

    def child(self, target: str, pid: int | None) -> None:
        """Keep the pid."""
        self.graph_pid = pid


async def measure(options: Options) -> list[Figure]:
    """Measure without a fault, then with kills."""
    return [
        *await _sustained(options, "no fault", options.minutes * 60, kills=False),
        *await _sustained(options, "stores killed", options.minutes * 12, kills=True),
    ]


async def _sustained(options: Options, name: str, seconds: float, *, kills: bool) -> list[Figure]:
    folder = options.folder / name.replace(" ", "-")
    (folder / "redis").mkdir(parents=True)
    server = RedisServer(find_server(), folder / "redis", folder / "redis.log")
    await server.start()
    place = ("127.0.0.1", server.port)
    site = _Site(
        SiteConfig(
            redis_host=place[0], redis_port=place[1], data_folder=str(folder), graph_engine=options.graph, workload={}
        )
    )
    try:
        async with transactions.open(
            folder, redis=place, schema=SCHEMA, engine=options.graph, site=site
        ) as coordinator:
            return await _measured(coordinator, server, site, name, seconds, kills=kills)
    finally:
        await server.stop()


async def _measured(
    coordinator: transactions.Coordinator, server: RedisServer, site: _Site, name: str, seconds: float, *, kills: bool
) -> list[Figure]:
    async def read(random: Random) -> None:
        key = random.randrange(KEYS)
        with suppress(TransactionError):
            async with coordinator.transaction(deadline_s=5.0, read_only=True) as txn:
                await txn.sqlite.fetch("SELECT value FROM items WHERE id = ?", (key,))
                await txn.redis.get(f"item:{key}")

    def writing(*, graph: bool) -> object:
        async def write(random: Random) -> None:
            key = random.randrange(KEYS)
            with suppress(TransactionError):
                async with coordinator.transaction(deadline_s=5.0) as txn:
                    txn.sqlite.execute("UPDATE items SET value = value + ? WHERE id = ?", (1, key))
                    txn.redis.command("SET", f"item:{key}", txn.token)
                    if graph:
                        txn.graph.execute("CREATE (:Event {id: $id, value: $value})", {"id": txn.token, "value": key})

        return write

    operations = [("all", "read", read)] * 6 + [("all", "write", writing(graph=False))] * 3
    operations += [("all", "write all", writing(graph=True))]
    await closed_loop(USERS, min(_WARM_S, seconds), operations)
    load = asyncio.create_task(closed_loop(USERS, seconds, operations))
    killer = asyncio.create_task(_kill(server, site)) if kills else None
    times: list[float] = []
    sizes: list[list[float]] = []  # of this process, the server and the graph's process
    while not load.done():
        pids = [None, server.child.pid if server.child else 0, site.graph_pid]
        found = [resident_bytes(pid) for pid in pids if pid != 0]
        if all(found):  # else one of them is being started again
            times.append(time.monotonic() / 60)
            sizes.append([(one or 0) / MEGABYTE for one in found])
        await asyncio.sleep(1 / _SAMPLES_PER_S)
    if killer is not None:
        killer.cancel()
        with suppress(asyncio.CancelledError):
            await killer
    _, rate = await load
    sums = [sum(one) for one in sizes]
    third = len(sums) // 3
    slope = linear_regression(times[third:], sums[third:]).slope if third else 0.0
    ours, servers, graphs = (_growth([one[number] for one in sizes]) for number in range(3))
    told = f"slope {slope:+.2f} MB a minute; ours {ours:+.1f}, Redis {servers:+.1f}, graph {graphs:+.1f} MB"
    return [
        Figure(f"resident memory of all processes, {name}, {rate:.0f} operations/s", max(sums), 500, "MB"),
        Figure(f"growth in {seconds:g} s, {name} ({told})", _growth(sums), 20, "MB"),
    ]


def _growth(sizes: list[float]) -> float:
    """Return by how much the median of the last third exceeds that of the middle one."""
    third = max(1, len(sizes) // 3)
    return median(sizes[-third:]) - median(sizes[-2 * third : -third] or sizes)


async def _kill(server: RedisServer, site: _Site) -> None:
    """Kill the graph's process and the server by turns; the graph comes back by itself."""
    while True:
        await asyncio.sleep(_KILLED_EVERY_S)
        if site.graph_pid is not None:
            with suppress(ProcessLookupError):
                os.kill(site.graph_pid, signal.SIGKILL)
        await asyncio.sleep(_KILLED_EVERY_S)
        if server.child is not None:
            await server.child.kill()
            await asyncio.shield(server.start())
