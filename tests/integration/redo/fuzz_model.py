"""A model of three stores in plain dictionaries, written from the operations and not from the coordinator.

An operation is a tuple of a name and arguments. `apply` does a writing one, `answer` a reading one; `statement` says
what the coordinator is asked for the same operation.
"""

from __future__ import annotations

import copy
from random import Random
from typing import Any

Op = tuple[Any, ...]

ITEMS = 12
KEYS = 6


class Impossible(Exception):
    """An operation that no store would have taken was committed."""


class Model:
    """Items of SQLite, keys of Redis by type, nodes and links of the graph."""

    def __init__(self) -> None:
        """Begin with the first rows."""
        self.items: dict[int, tuple[int, int]] = {n: (n % 3, 10) for n in range(0, ITEMS, 2)}
        self.strings: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.sets: dict[str, set[str]] = {}
        self.hashes: dict[str, dict[str, str]] = {}
        self.nodes: dict[str, int] = {}
        self.links: dict[str, tuple[str, str]] = {}

    def without_graph(self) -> Model:
        """Return a copy of what SQLite and Redis hold, to apply a transaction's own writes to."""
        other = Model()
        for name in ("items", "strings", "lists", "sets", "hashes"):
            setattr(other, name, copy.deepcopy(getattr(self, name)))
        return other

    def apply(self, op: Op) -> None:
        """Do a writing operation. Raises Impossible."""
        match op:
            case ("insert", number, group, value):
                if number in self.items:
                    raise Impossible(f"{op}: there already")
                self.items[number] = (group, value)
            case ("update", number, value):
                if number in self.items:
                    self.items[number] = (self.items[number][0], value)
            case ("add_to_group", group, value):
                self.items = {n: (g, v + value if g == group else v) for n, (g, v) in self.items.items()}
            case ("delete", number):
                self.items.pop(number, None)
            case ("set", key, value):
                self.strings[key] = value
            case ("increase", key, by):
                self.strings[key] = str(int(self.strings.get(key, "0")) + by)
            case ("push", key, value):
                self.lists.setdefault(key, []).append(value)
            case ("join", key, value):
                self.sets.setdefault(key, set()).add(value)
            case ("field", key, name, value):
                self.hashes.setdefault(key, {})[name] = value
            case ("drop", key):
                for kind in (self.strings, self.lists, self.sets, self.hashes):
                    kind.pop(key, None)  # type: ignore[attr-defined]  # dictionaries all
            case _:
                self._apply_to_graph(op)

    def _apply_to_graph(self, op: Op) -> None:
        match op:
            case ("node", name, value):
                self.nodes[name] = value
            case ("change", name, value):
                if name in self.nodes:
                    self.nodes[name] = value
            case ("link", name, source, target):
                if source in self.nodes and target in self.nodes:
                    self.links[name] = (source, target)
            case ("unlink", name):
                self.links.pop(name, None)
            case ("remove", name):
                self.nodes.pop(name, None)
                self.links = {link: ends for link, ends in self.links.items() if name not in ends}
            case _:
                raise AssertionError(op)

    def answer(self, op: Op) -> Any:
        """Answer a reading operation."""
        match op:
            case ("item", number):
                return [self.items[number]] if number in self.items else []
            case ("group", group):
                values = [value for one, value in self.items.values() if one == group]
                return [(len(values), sum(values) if values else None)]
            case ("get", key):
                return self.strings.get(key)
            case ("list", key):
                return self.lists.get(key, [])
            case ("members", key):
                return sorted(self.sets.get(key, ()))
            case ("hash", key):
                return dict(self.hashes.get(key, {}))
            case ("keys", prefix):
                every = [*self.strings, *self.lists, *self.sets, *self.hashes]
                return sorted(key for key in every if key.startswith(prefix))
            case ("value", name):
                return [[self.nodes[name]]] if name in self.nodes else []
            case ("nodes",):
                return len(self.nodes)
            case ("links",):
                return len(self.links)
            case _:
                raise AssertionError(op)


GRAPH = {"node", "change", "link", "unlink", "remove"}
READS_OF_GRAPH = {"value", "nodes", "links"}

CYPHER = {
    "node": "CREATE (:Node {id: $a, v: $b})",
    "change": "MATCH (n:Node {id: $a}) SET n.v = $b",
    "link": "MATCH (x:Node {id: $b}), (y:Node {id: $c}) CREATE (x)-[:LINK {id: $a}]->(y)",
    "unlink": "MATCH (:Node)-[l:LINK {id: $a}]->(:Node) DELETE l",
    "remove": "MATCH (n:Node {id: $a}) DETACH DELETE n",
    "value": "MATCH (n:Node {id: $a}) RETURN n.v",
    "nodes": "MATCH (n:Node) RETURN count(*)",
    "links": "MATCH (x:Node)-[l:LINK]->(y:Node) RETURN x.id, y.id",  # without the ends kuzu finds those of deleted nodes
}
SQL = {
    "insert": "INSERT INTO items (id, grp, value) VALUES (?, ?, ?)",
    "update": "UPDATE items SET value = ?2 WHERE id = ?1",
    "add_to_group": "UPDATE items SET value = value + ?2 WHERE grp = ?1",
    "delete": "DELETE FROM items WHERE id = ?",
    "item": "SELECT grp, value FROM items WHERE id = ?",
    "group": "SELECT count(*), sum(value) FROM items WHERE grp = ?",
}
REDIS = {"set": "SET", "increase": "INCRBY", "push": "RPUSH", "join": "SADD", "field": "HSET", "drop": "DEL"}


def perform(txn: Any, op: Op) -> None:
    """Buffer a writing operation in a transaction of the coordinator."""
    name, *values = op
    if name in GRAPH:
        txn.graph.execute(CYPHER[name], dict(zip("abc", values, strict=False)))
    elif name in REDIS:
        txn.redis.command(REDIS[name], *values)
    else:
        txn.sqlite.execute(SQL[name], values)


async def ask(txn: Any, op: Op) -> Any:
    """Ask a transaction of the coordinator; return the answer in the model's form."""
    name, *values = op
    if name in READS_OF_GRAPH:
        rows = await txn.graph.query(CYPHER[name], dict(zip("abc", values, strict=False)))
        return {"value": rows, "nodes": rows and rows[0][0], "links": len(rows)}[name]
    match op:
        case ("get", key):
            return await txn.redis.get(key)
        case ("list", key):
            return await txn.redis.read("LRANGE", key, 0, -1)
        case ("members", key):
            return sorted(await txn.redis.read("SMEMBERS", key))
        case ("hash", key):
            flat = await txn.redis.read("HGETALL", key)
            return dict(zip(flat[::2], flat[1::2], strict=True))
        case ("keys", prefix):
            return sorted(await txn.redis.keys(prefix))
    return await txn.sqlite.fetch(SQL[name], values)


def draw(rng: Random, token: str, nodes: list[str], links: list[str], *, changes: bool) -> tuple[list[Op], list[Op]]:
    """Draw writes and reads. nodes, links: names that may exist. changes: whether the graph is changed, not only added to."""
    key, number, value = rng.randrange(KEYS), rng.randrange(ITEMS), rng.randrange(100)
    some = rng.choice(nodes) if nodes else "none"
    other = rng.choice(nodes) if nodes else "none"
    writes: list[Op] = [
        ("insert", number, number % 3, value),
        ("update", number, value),
        ("update", number, value),
        ("add_to_group", number % 3, 1),
        ("delete", number),
        ("set", f"s:{key}", str(value)),
        ("increase", f"s:{key}", value),
        ("push", f"l:{key}", token),
        ("join", f"m:{key}", token),
        ("field", f"h:{key}", str(value % 4), token),
        ("drop", f"{rng.choice('slmh')}:{key}"),
        ("node", f"n{token}", value),
        ("link", f"l{token}", some, other),
    ]
    if changes:
        writes += [("change", some, value), ("unlink", rng.choice(links) if links else "none"), ("remove", some)]
    reads: list[Op] = [
        ("item", rng.randrange(ITEMS)),
        ("item", number),
        ("group", rng.randrange(3)),
        ("get", f"s:{key}"),
        ("get", f"s:{rng.randrange(KEYS)}"),
        ("list", f"l:{key}"),
        ("members", f"m:{key}"),
        ("hash", f"h:{key}"),
        ("keys", rng.choice(["s:", "m:"])),
        ("value", some),
        ("nodes",),
        ("links",),
    ]
    return rng.sample(writes, rng.choice([0, 1, 1, 2, 2, 3])), rng.sample(reads, rng.choice([0, 0, 1, 2, 3]))
