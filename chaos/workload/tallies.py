"""Counters and sets: the two data types whose updates commute, and so hide an update that was done twice, or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload import trace
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, Writes
from chaos.workload.shape import Keys

_SQLITE_COUNTERS = ("CREATE TABLE IF NOT EXISTS counters(key INTEGER PRIMARY KEY, value INTEGER NOT NULL)",)
_GRAPH_COUNTERS = ("CREATE NODE TABLE IF NOT EXISTS Step(id SERIAL, key INT64, amount INT64, PRIMARY KEY(id))",)
_SQLITE_SETS = ("CREATE TABLE IF NOT EXISTS members(key INTEGER NOT NULL, token TEXT NOT NULL, UNIQUE(key, token))",)
_GRAPH_SETS = ("CREATE NODE TABLE IF NOT EXISTS Member(id STRING, key INT64, token STRING, PRIMARY KEY(id))",)


@dataclass(frozen=True, kw_only=True)
class Counters(Keys):
    """Transactions that add up to `amount` to one of `keys` counters. The mark tells it, such as "3+7"."""

    amount: int = 10

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("amount", 1, 1_000_000)

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw a counter and an amount of at least 1."""
        [key], amount = self.choose(rng), rng.randint(1, self.amount)
        return {"key": key, "amount": amount, "mark": f"{key}+{amount}"}

    def genesis(self) -> Genesis:
        """Return counters at 0."""
        keys = range(self.keys)
        return Genesis(
            sqlite_schema=(*trace.SQLITE_SCHEMA, *_SQLITE_COUNTERS),
            graph_schema=(*trace.GRAPH_SCHEMA, *_GRAPH_COUNTERS),
            rows=Writes(
                sqlite=tuple(("INSERT INTO counters VALUES (?, 0)", (key,)) for key in keys),
                redis=tuple(("SET", f"counter:{key}", 0) for key in keys),
            ),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Buffer the addition and the trace."""
        txn.sqlite.execute("UPDATE counters SET value = value + ? WHERE key = ?", (spec["amount"], spec["key"]))
        txn.redis.command("INCRBY", f"counter:{spec['key']}", spec["amount"])
        step = {"key": spec["key"], "amount": spec["amount"]}
        txn.graph.execute("CREATE (:Step {key: $key, amount: $amount})", step)
        trace.leave(txn, spec["mark"])
        return ()

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the opposite addition; the graph gets a step back, since its steps have no names."""
        key, amount = spec["key"], spec["amount"]
        back = Writes(
            sqlite=(("UPDATE counters SET value = value - ? WHERE key = ?", (amount, key)),),
            redis=(("INCRBY", f"counter:{key}", -amount),),
            graph=(("CREATE (:Step {key: $key, amount: $amount})", {"key": key, "amount": -amount}),),
        )
        return trace.joined(back, trace.removed(token, spec["mark"]))

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read traces and counters."""
        rows = await store.fetch("SELECT key, value FROM counters")
        return self._image(await trace.in_sqlite(store), dict(rows))

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read traces and counters."""
        values = await store.execute("MGET", *(f"counter:{key}" for key in range(self.keys)))
        numbers = {key: trace.whole_number(value) for key, value in enumerate(values)}
        return self._image(await trace.in_redis(store), numbers)

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read traces and the sums of the steps."""
        rows = await store.query("MATCH (s:Step) RETURN s.key, sum(s.amount)", timeout_s=trace.READ_BACK_S)
        sums = dict.fromkeys(range(self.keys), 0) | {key: int(total) for key, total in rows}
        return self._image(await trace.in_graph(store), sums)

    def _image(self, traces: list[tuple[str, str]], numbers: Mapping[int, int | None]) -> StoreImage:
        return StoreImage(marks=trace.by_token(traces), counters=trace.named(numbers, "counter", self.keys))


@dataclass(frozen=True, kw_only=True)
class Sets(Keys):
    """Transactions that put their token into one of `keys` sets. The mark is the set's number."""

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw a set."""
        [key] = self.choose(rng)
        return {"key": key, "mark": str(key)}

    def genesis(self) -> Genesis:
        """Return empty sets."""
        return Genesis(sqlite_schema=_SQLITE_SETS, graph_schema=_GRAPH_SETS, rows=Writes())

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Buffer the new member."""
        key = spec["key"]
        txn.sqlite.execute("INSERT INTO members VALUES (?, ?)", (key, txn.token))
        txn.redis.command("SADD", f"set:{key}", txn.token)
        member = {"id": f"{key}/{txn.token}", "key": key, "token": txn.token}
        txn.graph.execute("CREATE (:Member {id: $id, key: $key, token: $token})", member)
        return ()

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that remove the member."""
        return Writes(
            sqlite=(("DELETE FROM members WHERE token = ?", (token,)),),
            redis=(("SREM", f"set:{spec['key']}", token),),
            graph=(("MATCH (m:Member {id: $id}) DELETE m", {"id": f"{spec['key']}/{token}"}),),
        )

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read the members."""
        return _members(await store.fetch("SELECT token, key FROM members"))

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read the members."""
        found = []
        for key in range(self.keys):
            found += [(token, key) for token in sorted(await store.execute("SMEMBERS", f"set:{key}"))]
        return _members(found)

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read the members."""
        return _members(await store.query("MATCH (m:Member) RETURN m.token, m.key", timeout_s=trace.READ_BACK_S))


def _members(pairs: Sequence[Sequence[Any]]) -> StoreImage:
    return StoreImage(marks=trace.by_token(sorted((str(token), str(key)) for token, key in pairs)))
