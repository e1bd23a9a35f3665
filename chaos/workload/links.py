"""Links: a row in SQLite for each edge in the graph, both or neither, and the number of each node's links in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload import trace
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, Writes
from chaos.workload.shape import Keys

_SQLITE_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS links(token TEXT NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL)",
)
_GRAPH_SCHEMA = (
    "CREATE NODE TABLE IF NOT EXISTS Thing(id INT64, PRIMARY KEY(id))",
    "CREATE REL TABLE IF NOT EXISTS LINK(FROM Thing TO Thing, token STRING)",
)
_LINK = "MATCH (a:Thing {id: $source}), (b:Thing {id: $target}) CREATE (a)-[:LINK {token: $token}]->(b)"


@dataclass(frozen=True, kw_only=True)
class Links(Keys):
    """Transactions that link one of `keys` things with 1 to `fan` others. The mark tells them, such as "3>5,9"."""

    fan: int = 3

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("keys", 2, 100_000)
        yield from self.bad_count("fan", 1, 64)

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw a thing and those that it is linked with."""
        source, *targets = self.choose(rng, 1 + rng.randint(1, self.fan))
        return {"source": source, "targets": sorted(targets), "mark": _mark(source, targets)}

    def genesis(self) -> Genesis:
        """Return things without links."""
        things = tuple(("CREATE (:Thing {id: $id})", {"id": number}) for number in range(self.keys))
        return Genesis(sqlite_schema=_SQLITE_SCHEMA, graph_schema=_GRAPH_SCHEMA, rows=Writes(graph=things))

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Buffer a row, an edge and a count for each link."""
        source = spec["source"]
        for target in spec["targets"]:
            txn.sqlite.execute("INSERT INTO links VALUES (?, ?, ?)", (txn.token, source, target))
            txn.graph.execute(_LINK, {"source": source, "target": target, "token": txn.token})
        txn.redis.command("RPUSH", "links", f"{txn.token} {spec['mark']}")
        txn.redis.command("HINCRBY", "degrees", str(source), len(spec["targets"]))
        return ()

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that remove the links."""
        return Writes(
            sqlite=(("DELETE FROM links WHERE token = ?", (token,)),),
            redis=(
                ("LREM", "links", 1, f"{token} {spec['mark']}"),
                ("HINCRBY", "degrees", str(spec["source"]), -len(spec["targets"])),
            ),
            graph=(("MATCH ()-[l:LINK {token: $token}]->() DELETE l", {"token": token}),),
        )

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read the rows."""
        return self._image([tuple(row) for row in await store.fetch("SELECT token, source, target FROM links")])

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read what was linked, and the number of links of each thing."""
        entries = await trace.items(store, "links")
        flat: list[str] = await store.execute("HGETALL", "degrees")
        degrees = dict(zip(flat[::2], flat[1::2], strict=True))
        numbers = {n: trace.whole_number(degrees.get(str(n), "0")) for n in range(self.keys)}
        marks = trace.by_token(entry.partition(" ")[::2] for entry in entries)
        return StoreImage(marks=marks, counters=trace.named(numbers, "degree", self.keys))

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read the edges."""
        query = "MATCH (a:Thing)-[l:LINK]->(b:Thing) RETURN l.token, a.id, b.id"
        return self._image([(row[0], row[1], row[2]) for row in await store.query(query, timeout_s=trace.READ_BACK_S)])

    def _image(self, links: Sequence[tuple[Any, ...]]) -> StoreImage:
        """Put the links of each transaction together again; one that lacks some has another mark than was sent."""
        by_source: dict[tuple[str, int], list[int]] = {}
        for token, source, target in sorted(links):
            by_source.setdefault((token, source), []).append(target)
        degrees: Counter[int] = Counter(source for _, source, _ in links)
        marks = trace.by_token((token, _mark(source, targets)) for (token, source), targets in by_source.items())
        numbers = {number: degrees[number] for number in range(self.keys)}
        return StoreImage(marks=marks, counters=trace.named(numbers, "degree", self.keys))


def _mark(source: int, targets: Sequence[int]) -> str:
    return f"{source}>{','.join(map(str, sorted(targets)))}"
