"""The graph: 2- and 3-hop queries below 500 ms at p99 with 50 connections, connect below 100 ms, 20/s, 10 MB each."""

from __future__ import annotations

import os
import time
from random import Random

from chaos.metrics.quantiles import quantile
from chaos.metrics.resources import resident_bytes
from chaos.stores.graph import GraphStore
from chaos.stores.pool_model import PoolSettings

from .model import MEGABYTE, Figure, Options, closed_loop, of

CONNECTIONS = 50
NODES = 5000
EDGES_EACH = 5
_BATCH = 1000
QUERIES = {
    "simple": "MATCH (a:User {id: $id}) RETURN a.id",
    "1 hop": "MATCH (a:User {id: $id})-[:Follows]->(b:User) RETURN b.id",
    "2 hops": "MATCH (a:User {id: $id})-[:Follows]->(:User)-[:Follows]->(c:User) RETURN count(DISTINCT c.id)",
    "3 hops": "MATCH (a:User {id: $id})-[:Follows]->(:User)-[:Follows]->(:User)-[:Follows]->(d:User) "
    "RETURN count(DISTINCT d.id)",
    "aggregate": "MATCH (a:User) WHERE a.id > $id RETURN a.id % 10, count(*)",
}


async def measure(options: Options) -> list[Figure]:
    """Fill a graph, query it with all connections, then take the connections one by one."""
    pids: list[int | None] = []
    pool = PoolSettings(max_size=CONNECTIONS, growth=CONNECTIONS, acquire_timeout_s=60)
    store = GraphStore(
        options.folder,
        engine=options.graph,
        log=options.folder / "log",
        pool=pool,
        call_timeout_s=30,
        on_child=pids.append,
    )
    store.open()
    try:
        await store.wait_ready(30)
        await fill(store)
        return await _measured(store, pids[-1] or os.getpid(), options)
    finally:
        await store.close()


async def _measured(store: GraphStore, pid: int, options: Options) -> list[Figure]:
    def query(cypher: str) -> object:
        async def run(random: Random) -> None:
            await store.query(cypher, {"id": random.randrange(NODES)})

        return run

    operations = [("graph", name, query(cypher)) for name, cypher in QUERIES.items()]
    await closed_loop(1, min(2.0, options.seconds), operations)  # what it reads goes into the buffer pool once
    before = resident_bytes(pid) or 0
    connected_s = []
    leases = []
    for _ in range(CONNECTIONS):
        began_s = time.perf_counter()
        leases.append(await store._readers._readers.acquire())  # noqa: SLF001  # a connection, and nothing asked of it
        connected_s.append(time.perf_counter() - began_s)
    for lease in leases:
        store._readers._readers.release(lease)  # noqa: SLF001
    recorder, rate = await closed_loop(CONNECTIONS, options.seconds, operations)
    after = resident_bytes(pid) or 0
    return [
        *(of(recorder, "graph", name, 0.99, 500, CONNECTIONS) for name in QUERIES),
        Figure("connect p99", quantile(sorted(connected_s), 0.99) * 1000, 100, "ms"),
        Figure("operations per second", rate, 20, "/s", at_most=False),
        Figure("memory per connection, buffer pool warm", (after - before) / CONNECTIONS / MEGABYTE, 10, "MB"),
    ]


async def fill(store: GraphStore) -> None:
    """Make NODES users who each follow EDGES_EACH others, drawn with a fixed seed."""
    random = Random(1)
    schema = (
        "CREATE NODE TABLE IF NOT EXISTS User(id INT64, PRIMARY KEY(id))",
        "CREATE REL TABLE IF NOT EXISTS Follows(FROM User TO User)",
    )
    await store.seed(schema, [])
    for first in range(0, NODES, _BATCH):
        ids = list(range(first, first + _BATCH))
        await store.write([("UNWIND $ids AS id CREATE (:User {id: id})", {"ids": ids})])
    edge = "UNWIND $pairs AS p MATCH (a:User {id: p[1]}), (b:User {id: p[2]}) CREATE (a)-[:Follows]->(b)"
    for _ in range(EDGES_EACH):
        for first in range(0, NODES, _BATCH):
            pairs = [[number, random.randrange(NODES)] for number in range(first, first + _BATCH)]
            await store.write([(edge, {"pairs": pairs})])
