"""Registers: each transaction reads some and overwrites some, in all three stores.

Only the last writer of a register can be seen, so a read tells less than one of a list; but overwriting is what most
programs do, and what a store does with it differs from appending. The graph keeps a node per write and reads the
newest.
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
_NOBODY = ""
_SQLITE_SCHEMA = ("CREATE TABLE IF NOT EXISTS registers(key INTEGER PRIMARY KEY, token TEXT NOT NULL)",)
_GRAPH_SCHEMA = ("CREATE NODE TABLE IF NOT EXISTS Version(id SERIAL, key INT64, token STRING, PRIMARY KEY(id))",)


@dataclass(frozen=True, kw_only=True)
class Registers(Keys):
    """Transactions that read up to `reads` registers, then overwrite 1 to `writes`.

    The mark of a transaction is the registers that it writes, such as "3,11".
    """

    reads: int = 2
    writes: int = 2

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("reads", 0, 16)
        yield from self.bad_count("writes", 1, 16)

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw which registers to read, each from which store, and which to write."""
        reads = [[rng.choice(STORES), key] for key in self.choose(rng, rng.randint(0, self.reads))]
        writes = sorted(self.choose(rng, rng.randint(1, self.writes)))
        return {"reads": reads, "writes": writes, "mark": ",".join(map(str, writes))}

    def genesis(self) -> Genesis:
        """Return registers that nobody has written."""
        keys = range(self.keys)
        return Genesis(
            sqlite_schema=(*trace.SQLITE_SCHEMA, *_SQLITE_SCHEMA),
            graph_schema=(*trace.GRAPH_SCHEMA, *_GRAPH_SCHEMA),
            rows=Writes(
                sqlite=tuple(("INSERT INTO registers VALUES (?, ?)", (key, _NOBODY)) for key in keys),
                redis=tuple(("SET", f"register:{key}", _NOBODY) for key in keys),
                graph=tuple(("CREATE (:Version {key: $key, token: ''})", {"key": key}) for key in keys),
            ),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Read, then buffer the writes and the trace; return what was read."""
        found = []
        for store, key in spec["reads"]:
            writer = await _register(txn, store, key)
            found.append(Read(store, str(key), [writer] if writer else [], whole=False))
        for key in spec["writes"]:
            txn.sqlite.execute("UPDATE registers SET token = ? WHERE key = ?", (txn.token, key))
            txn.redis.command("SET", f"register:{key}", txn.token)
            txn.graph.execute("CREATE (:Version {key: $key, token: $token})", {"key": key, "token": txn.token})
        trace.leave(txn, spec["mark"])
        return found

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that take the trace away; what a register held before it cannot be known any more."""
        versions = Writes(graph=(("MATCH (v:Version {token: $token}) DELETE v", {"token": token}),))
        return trace.joined(versions, trace.removed(token, spec["mark"]))

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read traces and registers."""
        rows = await store.fetch("SELECT key, token FROM registers")
        return self._image(await trace.in_sqlite(store), dict(rows))

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read traces and registers."""
        values = await store.execute("MGET", *(f"register:{key}" for key in range(self.keys)))
        return self._image(await trace.in_redis(store), dict(enumerate(values)))

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read traces and the newest node of each register."""
        rows = await store.query("MATCH (v:Version) RETURN v.key, v.token ORDER BY v.id", timeout_s=trace.READ_BACK_S)
        return self._image(await trace.in_graph(store), dict(rows))

    def _image(self, traces: list[tuple[str, str]], held: Mapping[int, str | None]) -> StoreImage:
        """Tell the order of writers by the traces, and as broken where a register does not hold the last of them."""
        order: defaultdict[str, list[str]] = defaultdict(list)
        for token, mark in traces:
            for key in mark.split(","):
                order[key].append(token)
        last = {key: (order.get(str(key)) or [_NOBODY])[-1] for key in range(self.keys)}
        broken = [
            f"register {key} holds {held.get(key) or 'nothing'}, and its last writer was {last[key] or 'nobody'}"
            for key in range(self.keys)
            if held.get(key) != last[key]
        ]
        return StoreImage(marks=trace.by_token(traces), order=dict(order), broken=broken)


async def _register(txn: UnitOfWork, store: str, key: int) -> str:
    """Return the last writer of a register as one store tells it, "" for nobody."""
    if store == "sqlite":
        rows = await txn.sqlite.fetch("SELECT token FROM registers WHERE key = ?", (key,))
        return str(rows[0][0])
    if store == "redis":
        return await txn.redis.get(f"register:{key}") or _NOBODY
    query = "MATCH (v:Version) WHERE v.key = $key RETURN v.token ORDER BY v.id DESC LIMIT 1"
    return str((await txn.graph.query(query, {"key": key}))[0][0])
