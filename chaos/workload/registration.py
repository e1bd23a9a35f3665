"""Users who register: an identity in SQLite, a profile with friends in the graph, a session and a count in Redis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload import trace
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, WorkRefused, Writes
from chaos.workload.shape import Shape

_SQLITE_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS users(id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, friends INTEGER NOT NULL)",
)
_GRAPH_SCHEMA = (
    "CREATE NODE TABLE IF NOT EXISTS Person(id STRING, email STRING, friends INT64, PRIMARY KEY(id))",
    "CREATE REL TABLE IF NOT EXISTS KNOWS(FROM Person TO Person)",
)
_PROFILE = "CREATE (:Person {id: $id, email: $email, friends: $friends})"
_KNOWS = "MATCH (a:Person {id: $id}), (b:Person {id: $friend}) CREATE (a)-[:KNOWS]->(b)"
_COUNT = "registered"
_SESSIONS = "sessions"


@dataclass(frozen=True, kw_only=True)
class Registration(Shape):
    """Users with up to `friends` friends among `founders` who were there before.

    taken: the share of registrations with an address that is in use already; they must be refused, by the reading or
    by the constraint. The mark is the address.
    """

    founders: int = 16
    friends: int = 3
    taken: float = 0.1

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("founders", 1, 10_000)
        yield from self.bad_count("friends", 0, 64)
        yield from self.bad_number("taken", 0.0, 1.0)

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw an address, which is somebody's in one of so many cases, and the friends."""
        is_taken = rng.random() < self.taken
        name = f"founder{rng.randrange(self.founders)}" if is_taken else token
        count = rng.randint(0, min(self.friends, self.founders))
        return {"mark": f"{name}@example.org", "friends": sorted(rng.sample(range(self.founders), count))}

    def genesis(self) -> Genesis:
        """Return the founders."""
        people = [(f"founder{n}", f"founder{n}@example.org") for n in range(self.founders)]
        return Genesis(
            sqlite_schema=_SQLITE_SCHEMA,
            graph_schema=_GRAPH_SCHEMA,
            rows=Writes(
                sqlite=tuple(("INSERT INTO users VALUES (?, ?, 0)", person) for person in people),
                redis=(("SET", _COUNT, 0),),
                graph=tuple((_PROFILE, {"id": name, "email": email, "friends": 0}) for name, email in people),
            ),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Look whether the address is free, then buffer the user. Raises WorkRefused when it is not."""
        email, friends = spec["mark"], spec["friends"]
        if await txn.sqlite.fetch("SELECT 1 FROM users WHERE email = ?", (email,)):
            raise WorkRefused(f"email={email} is in use")
        txn.sqlite.execute("INSERT INTO users VALUES (?, ?, ?)", (txn.token, email, len(friends)))
        txn.graph.execute(_PROFILE, {"id": txn.token, "email": email, "friends": len(friends)})
        for friend in friends:
            txn.graph.execute(_KNOWS, {"id": txn.token, "friend": f"founder{friend}"})
        txn.redis.command("HSET", _SESSIONS, txn.token, email)
        txn.redis.command("INCRBY", _COUNT, 1)
        return ()

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that remove the user."""
        return Writes(
            sqlite=(("DELETE FROM users WHERE id = ?", (token,)),),
            redis=(("HDEL", _SESSIONS, token), ("INCRBY", _COUNT, -1)),
            graph=(("MATCH (p:Person {id: $id}) DETACH DELETE p", {"id": token}),),
        )

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read the identities."""
        rows = await store.fetch("SELECT id, email FROM users WHERE id NOT LIKE 'founder%' ORDER BY rowid")
        return StoreImage(marks=trace.by_token(rows), counters={_COUNT: len(rows)}, broken=[])

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read the sessions and the count."""
        flat: list[str] = await store.execute("HGETALL", _SESSIONS)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        count = trace.whole_number(await store.execute("GET", _COUNT))
        return StoreImage(marks=trace.by_token(pairs), counters={_COUNT: count}, broken=[])

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read the profiles; one that has fewer friends, or more, than it says is broken."""
        rows = await store.query("MATCH (p:Person) RETURN p.id, p.email, p.friends", timeout_s=trace.READ_BACK_S)
        edges = await store.query("MATCH (p:Person)-[:KNOWS]->() RETURN p.id, count(*)", timeout_s=trace.READ_BACK_S)
        known = dict(edges)
        users = sorted((name, email, friends) for name, email, friends in rows if not name.startswith("founder"))
        broken = [
            f"user {name} has {known.get(name, 0)} friends, not {friends}"
            for name, _, friends in users
            if known.get(name, 0) != friends
        ]
        marks = trace.by_token((name, email) for name, email, _ in users)
        return StoreImage(marks=marks, counters={_COUNT: len(users)}, broken=broken)
