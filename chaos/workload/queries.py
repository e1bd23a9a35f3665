"""Query patterns: what programs ask each store for, and whether the answers are right.

Each transaction asks one store one thing, and some write there as well. What it was answered is written down beside its
trace, so whoever reads the stores back can play all transactions in the order of their commits through a model
(`query_model`), which must give the same answers: a row that is missing, or too many, or of another moment, is seen
although all stores agree. That order is one in which each could have run alone only under serializable isolation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload import trace
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, Writes
from chaos.workload.query_model import (
    QueryModel,
    batch_of,
    city_of,
    first_amount,
    first_edges,
    keys_of,
    told,
)
from chaos.workload.shape import Keys

PATTERNS = (
    "graph.simple",
    "graph.join",
    "graph.path",
    "graph.aggregate",
    "graph.create",
    "sqlite.select",
    "sqlite.join",
    "sqlite.aggregate",
    "sqlite.bulk",
    "redis.get",
    "redis.set",
    "redis.pipeline",
    "redis.hash",
)
_ANSWERS = "answers"
_SQLITE_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS people(id INTEGER PRIMARY KEY, city INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS orders(person INTEGER NOT NULL, amount INTEGER NOT NULL, token TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS orders_person ON orders(person)",
    "CREATE TABLE IF NOT EXISTS answers(token TEXT NOT NULL, answer TEXT NOT NULL)",
)
_GRAPH_SCHEMA = (
    "CREATE NODE TABLE IF NOT EXISTS Citizen(id INT64, city INT64, PRIMARY KEY(id))",
    "CREATE REL TABLE IF NOT EXISTS FOLLOWS(FROM Citizen TO Citizen, token STRING)",
    "CREATE NODE TABLE IF NOT EXISTS Answer(id SERIAL, token STRING, answer STRING, PRIMARY KEY(id))",
)
_FOLLOW = "MATCH (a:Citizen {id: $source}), (b:Citizen {id: $target}) CREATE (a)-[:FOLLOWS {token: $token}]->(b)"
_CYPHER = {
    "graph.simple": "MATCH (p:Citizen {id: $id}) RETURN p.city",
    "graph.join": "MATCH (p:Citizen {id: $id})-[f:FOLLOWS]->(q:Citizen) RETURN q.id, q.city, f.token",
    "graph.path": "MATCH (p:Citizen {id: $id})-[:FOLLOWS*1..%d]->(q:Citizen) RETURN DISTINCT q.id",
    "graph.aggregate": "MATCH (p:Citizen)-[:FOLLOWS]->(:Citizen) RETURN p.city, count(*)",
    "graph.create": "MATCH (p:Citizen {id: $id})-[:FOLLOWS]->(:Citizen) RETURN count(*)",
}
_BULK = "INSERT INTO orders VALUES "
_SQL = {
    "sqlite.select": "SELECT amount, token FROM orders WHERE person = ?",
    "sqlite.join": "SELECT p.city, o.amount, o.token FROM people p JOIN orders o ON o.person = p.id WHERE p.id = ?",
    "sqlite.aggregate": (
        "SELECT p.city, count(*), sum(o.amount) FROM people p JOIN orders o ON o.person = p.id GROUP BY p.city"
    ),
    "sqlite.bulk": "SELECT count(*) FROM orders WHERE person = ?",
}


@dataclass(frozen=True, kw_only=True)
class Queries(Keys):
    """Transactions that each run one of `patterns`, drawn evenly, on one of `keys` people.

    graph.simple looks a node up; .join follows its relationships; .path finds all that 1 to `hops` of them lead to;
    .aggregate counts by group; .create adds a relationship. sqlite.select, .join and .aggregate are what they are
    called, and .bulk inserts `batch` rows in one statement. redis.get and .set read and write a value, .pipeline reads
    and writes `batch` of them at once, .hash reads and changes a hash. The mark tells it, such as "graph.path:3:2".
    """

    keys: int = 32
    patterns: tuple[str, ...] = PATTERNS
    hops: int = 3
    batch: int = 10

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("keys", 2, 10_000)
        yield from self.bad_count("hops", 1, 3)
        yield from self.bad_count("batch", 1, 1000)
        named = self.patterns if isinstance(self.patterns, tuple | list) else ()
        unknown = [name for name in named if name not in PATTERNS]
        if not named or unknown:
            yield self.problem(
                f"patterns={self.patterns!r}) must be some of {', '.join(PATTERNS)}", "change patterns", "not-a-choice"
            )

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw a pattern, somebody, and what else the pattern wants."""
        pattern = rng.choice(tuple(self.patterns))
        person, other = self.choose(rng, 2)
        rest = {"graph.path": [rng.randint(1, self.hops)], "graph.create": [other]}.get(pattern, [])
        return {"pattern": pattern, "mark": ":".join(map(str, (pattern, person, *rest)))}

    def to_config(self) -> dict[str, Any]:
        """Return every parameter as a plain JSON value."""
        return {**super().to_config(), "patterns": list(self.patterns)}

    def genesis(self) -> Genesis:
        """Return people who follow two others each, with an order, a value and a profile."""
        people = range(self.keys)
        edges = first_edges(self.keys)
        return Genesis(
            sqlite_schema=(*trace.SQLITE_SCHEMA, *_SQLITE_SCHEMA),
            graph_schema=(*trace.GRAPH_SCHEMA, *_GRAPH_SCHEMA),
            rows=Writes(
                sqlite=(
                    *(("INSERT INTO people VALUES (?, ?)", (n, city_of(n))) for n in people),
                    *(("INSERT INTO orders VALUES (?, ?, '')", (n, first_amount(n))) for n in people),
                ),
                redis=(
                    *(("SET", f"value:{n}", "") for n in people),
                    *(("HSET", f"profile:{n}", "city", city_of(n), "count", 0) for n in people),
                ),
                graph=(
                    *(("CREATE (:Citizen {id: $id, city: $city})", {"id": n, "city": city_of(n)}) for n in people),
                    *((_FOLLOW, {"source": source, "target": target, "token": ""}) for source, target in edges),
                ),
            ),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Ask, then buffer what the pattern writes, the answer and the trace."""
        pattern, key, *rest = spec["mark"].split(":")
        person, others = int(key), [int(one) for one in rest]
        answer = told(await self._ask(txn, pattern, person, others))
        self._write(txn, pattern, person, others)
        txn.sqlite.execute("INSERT INTO answers VALUES (?, ?)", (txn.token, answer))
        txn.redis.command("RPUSH", _ANSWERS, f"{txn.token} {answer}")
        txn.graph.execute("CREATE (:Answer {token: $token, answer: $answer})", {"token": txn.token, "answer": answer})
        trace.leave(txn, spec["mark"])
        return ()

    async def _ask(self, txn: UnitOfWork, pattern: str, person: int, others: list[int]) -> Iterable[Sequence[Any]]:
        """Return the rows that the store of the pattern answers with."""
        if pattern in _CYPHER:
            text = _CYPHER[pattern]
            is_path, is_about_all = pattern == "graph.path", pattern == "graph.aggregate"
            # The number of hops is no parameter in Cypher.
            return await txn.graph.query(text % others[0] if is_path else text, {} if is_about_all else {"id": person})
        if pattern in _SQL:
            return await txn.sqlite.fetch(_SQL[pattern], () if pattern == "sqlite.aggregate" else (person,))
        if pattern == "redis.hash":
            flat = await txn.redis.read("HGETALL", f"profile:{person}")
            return list(zip(flat[::2], flat[1::2], strict=True))
        if pattern == "redis.pipeline":
            keys = keys_of(person, self.keys, self.batch)
            values = await txn.redis.read("MGET", *(f"value:{key}" for key in keys))
            return list(zip(keys, values, strict=True))
        return [(await txn.redis.get(f"value:{person}"),)]

    def _write(self, txn: UnitOfWork, pattern: str, person: int, others: list[int]) -> None:
        """Buffer what the pattern writes, if it does."""
        match pattern:
            case "graph.create":
                txn.graph.execute(_FOLLOW, {"source": person, "target": others[0], "token": txn.token})
            case "sqlite.bulk":
                rows = batch_of(person, self.keys, self.batch)
                flat = [value for row in rows for value in (*row, txn.token)]
                txn.sqlite.execute(_BULK + ", ".join(["(?, ?, ?)"] * len(rows)), flat)
            case "redis.set":
                txn.redis.command("SET", f"value:{person}", txn.token)
            case "redis.pipeline":
                for key in keys_of(person, self.keys, self.batch):
                    txn.redis.command("SET", f"value:{key}", txn.token)
            case "redis.hash":
                txn.redis.command("HINCRBY", f"profile:{person}", "count", 1)
                txn.redis.command("HSET", f"profile:{person}", "last", txn.token)

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that take rows, answer and trace away; what a value held before cannot be known."""
        rows = Writes(
            sqlite=(
                ("DELETE FROM orders WHERE token = ?", (token,)),
                ("DELETE FROM answers WHERE token = ?", (token,)),
            ),
            graph=(
                ("MATCH (:Citizen)-[f:FOLLOWS {token: $token}]->(:Citizen) DELETE f", {"token": token}),
                ("MATCH (a:Answer {token: $token}) DELETE a", {"token": token}),
            ),
        )
        return trace.joined(rows, trace.removed(token, spec["mark"]))

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read traces, answers and orders."""
        traces, answers = await trace.in_sqlite(store), dict(await store.fetch("SELECT token, answer FROM answers"))
        model, broken = self._replay(traces, answers)
        broken += _differing("orders", await store.fetch("SELECT person, amount, token FROM orders"), model.orders)
        return StoreImage(marks=trace.by_token(traces), broken=broken)

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read traces, answers, values and profiles."""
        traces = await trace.in_redis(store)
        entries = [entry.partition(" ") for entry in await trace.items(store, _ANSWERS)]
        model, broken = self._replay(traces, {token: answer for token, _, answer in entries})
        people = range(self.keys)
        values = await store.execute("MGET", *(f"value:{person}" for person in people))
        broken += _differing("values", enumerate(values), model.values.items())
        held = [(person, *row) for person in people for row in await _hash(store, f"profile:{person}")]
        meant = [(person, *row) for person in people for row in model.profiles[person].items()]
        broken += _differing("profiles", held, meant)
        return StoreImage(marks=trace.by_token(traces), broken=broken)

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read traces, answers and relationships."""
        traces = await trace.in_graph(store)
        answers = await store.query("MATCH (a:Answer) RETURN a.token, a.answer", timeout_s=trace.READ_BACK_S)
        model, broken = self._replay(traces, dict(answers))
        query = "MATCH (p:Citizen)-[f:FOLLOWS]->(q:Citizen) RETURN p.id, q.id, f.token"
        broken += _differing("relationships", await store.query(query, timeout_s=trace.READ_BACK_S), model.edges)
        return StoreImage(marks=trace.by_token(traces), broken=broken)

    def _replay(self, traces: Sequence[tuple[str, str]], answers: Mapping[str, str]) -> tuple[QueryModel, list[str]]:
        """Play the transactions in order; return the data after them, and say which were answered otherwise."""
        model = QueryModel(self.keys, self.batch)
        broken = []
        for token, mark in traces:
            meant, found = model.answer(mark), answers.get(token, "nothing")
            if found != meant:
                broken.append(f"{token} asked {mark} and was answered {found}, where the data gave {meant}")
            model.apply(token, mark)
        return model, broken


def _differing(noun: str, held: Iterable[Sequence[Any]], meant: Iterable[Sequence[Any]]) -> list[str]:
    """Say how many rows a store lacks, or has too many, of what all its transactions together give."""
    is_there, should_be = Counter(map(tuple, held)), Counter(map(tuple, meant))
    lacking, extra = should_be - is_there, is_there - should_be
    if not lacking and not extra:
        return []
    example = next(iter(lacking or extra))
    return [f"{noun}: {lacking.total()} are missing and {extra.total()} too many, such as {example}"]


async def _hash(store: KeyValue, key: str) -> list[tuple[str, str]]:
    """Return the fields of a hash; what is of another type counts as lost."""
    if await store.execute("TYPE", key) != "hash":
        return []
    flat: list[str] = await store.execute("HGETALL", key)
    return list(zip(flat[::2], flat[1::2], strict=True))
