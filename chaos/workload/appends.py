"""Lists that only grow: each transaction reads some and appends its own token to some, in all three stores.

What it read is in the history. Every element of a list names its writer, and a list that was read names all writers
before it, so which transaction must come before which follows from the reads alone (Kingsbury and Alvaro, "Elle",
PVLDB 14(3), 2020): the workload for the checks of isolation. A read of one list goes to a store that is drawn, so
that a transaction which sees two stores at two moments is caught.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload import trace
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, Writes
from chaos.workload.shape import Keys

STORES = ("sqlite", "redis", "graph")
_SQLITE_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS elements(key INTEGER NOT NULL, token TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS elements_key ON elements(key)",
)
_GRAPH_SCHEMA = (
    "CREATE NODE TABLE IF NOT EXISTS Element(id SERIAL, key INT64, token STRING, PRIMARY KEY(id))",
    "CREATE NODE TABLE IF NOT EXISTS List(key INT64, PRIMARY KEY(key))",
)


@dataclass(frozen=True, kw_only=True)
class Appends(Keys):
    """Transactions that read up to `reads` lists, then append to 1 to `appends` lists.

    The mark of a transaction is the lists that it appends to, such as "3,11".
    """

    reads: int = 2
    appends: int = 2

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("reads", 0, 16)
        yield from self.bad_count("appends", 1, 16)

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw which lists to read, each from which store, and which to append to."""
        reads = [[rng.choice(STORES), key] for key in self.choose(rng, rng.randint(0, self.reads))]
        appends = sorted(self.choose(rng, rng.randint(1, self.appends)))
        return {"reads": reads, "appends": appends, "mark": ",".join(map(str, appends))}

    def genesis(self) -> Genesis:
        """Return empty lists."""
        lists = tuple(("CREATE (:List {key: $key})", {"key": key}) for key in range(self.keys))
        return Genesis(
            sqlite_schema=(*trace.SQLITE_SCHEMA, *_SQLITE_SCHEMA),
            graph_schema=(*trace.GRAPH_SCHEMA, *_GRAPH_SCHEMA),
            rows=Writes(graph=lists),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Read, then buffer the appends and the trace; return what was read."""
        found = [Read(store, str(key), await _list(txn, store, key)) for store, key in spec["reads"]]
        for key in spec["appends"]:
            txn.sqlite.execute("INSERT INTO elements VALUES (?, ?)", (key, txn.token))
            txn.redis.command("RPUSH", f"list:{key}", txn.token)
            txn.graph.execute("CREATE (:Element {key: $key, token: $token})", {"key": key, "token": txn.token})
        trace.leave(txn, spec["mark"])
        return found

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that take the elements and the trace away."""
        elements = Writes(
            sqlite=(("DELETE FROM elements WHERE token = ?", (token,)),),
            redis=tuple(("LREM", f"list:{key}", 1, token) for key in spec["appends"]),
            graph=(("MATCH (e:Element {token: $token}) DELETE e", {"token": token}),),
        )
        return trace.joined(elements, trace.removed(token, spec["mark"]))

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read traces and lists."""
        pairs = await store.fetch("SELECT key, token FROM elements ORDER BY rowid")
        return _image(await trace.in_sqlite(store), pairs)

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read traces and lists; a key of another type counts as an empty list."""
        pairs = [(key, token) for key in range(self.keys) for token in await trace.items(store, f"list:{key}")]
        return _image(await trace.in_redis(store), pairs)

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read traces and lists."""
        query = "MATCH (e:Element) RETURN e.key, e.token ORDER BY e.id"
        pairs = await store.query(query, timeout_s=trace.READ_BACK_S)
        return _image(await trace.in_graph(store), pairs)


async def _list(txn: UnitOfWork, store: str, key: int) -> list[str]:
    """Return the elements of one list as one store tells them."""
    if store == "sqlite":
        rows = await txn.sqlite.fetch("SELECT token FROM elements WHERE key = ? ORDER BY rowid", (key,))
        return [token for (token,) in rows]
    if store == "redis":
        elements: list[str] = await txn.redis.read("LRANGE", f"list:{key}", 0, -1)
        return elements
    query = "MATCH (e:Element) WHERE e.key = $key RETURN e.token ORDER BY e.id"
    return [token for (token,) in await txn.graph.query(query, {"key": key})]


def _image(traces: list[tuple[str, str]], pairs: Sequence[Sequence[Any]]) -> StoreImage:
    order: defaultdict[str, list[str]] = defaultdict(list)
    for key, token in pairs:
        order[str(key)].append(token)
    return StoreImage(marks=trace.by_token(traces), order=dict(order))
