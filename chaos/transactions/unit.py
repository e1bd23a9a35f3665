"""A transaction while its body runs: reads go to the stores, writes are kept here until the commit.

Nothing reaches a store before the commit, so an abort has nothing to undo anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore
from chaos.workload.base import Statement

REPLAYABLE_COMMANDS = frozenset(
    {"SET", "DEL", "INCRBY", "DECRBY", "RPUSH", "LPUSH", "SADD", "SREM", "HSET", "HDEL", "HINCRBY", "ZADD", "ZREM"}
)
"""Redis commands whose effect depends only on their arguments and the data, so that a replay repeats it."""


READING_COMMANDS = frozenset(
    {
        "GET",
        "MGET",
        "STRLEN",
        "EXISTS",
        "TYPE",
        "LRANGE",
        "LLEN",
        "LINDEX",
        "SMEMBERS",
        "SISMEMBER",
        "SCARD",
        "HGET",
        "HMGET",
        "HGETALL",
        "HLEN",
        "HEXISTS",
        "ZRANGE",
        "ZSCORE",
        "ZCARD",
    }
)
"""Redis commands that read the keys they name, and nothing else."""


class SQLiteHandle:
    """SQLite inside a transaction."""

    def __init__(self, store: SQLiteStore) -> None:
        """Read from `store`; buffer writes in `writes`."""
        self._store = store
        self.writes: list[tuple[str, tuple[Any, ...]]] = []

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Buffer a write."""
        self.writes.append((sql, tuple(parameters)))

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read the last committed state, without this transaction's writes. Raises StoreUnavailable."""
        return await self._store.fetch(sql, tuple(parameters))


class RedisHandle:
    """Redis inside a transaction."""

    def __init__(self, store: RedisStore) -> None:
        """Read from `store`; buffer writes in `writes`."""
        self._store = store
        self.writes: list[tuple[str | int, ...]] = []

    def command(self, name: str, *arguments: str | int) -> None:
        """Buffer a write. Raises ValueError for a command that could not be replayed."""
        if name not in REPLAYABLE_COMMANDS:
            raise ValueError(f"command={name!r} must be one of {', '.join(sorted(REPLAYABLE_COMMANDS))}")
        self.writes.append((name, *arguments))

    async def get(self, key: str) -> str | None:
        """Read a key now; it may be older than what SQLite holds. Raises StoreUnavailable or StoreInDoubt."""
        value: str | None = await self.read("GET", key)
        return value

    async def read(self, name: str, *arguments: str | int) -> Any:
        """Run a reading command now; what it finds may be older than what SQLite holds.

        Raises ValueError for a command that is not in `READING_COMMANDS`, StoreUnavailable or StoreInDoubt.
        """
        if name not in READING_COMMANDS:
            raise ValueError(f"command={name!r} must be one of {', '.join(sorted(READING_COMMANDS))}")
        return await self._store.execute(name, *arguments)


class GraphHandle:
    """The graph inside a transaction."""

    def __init__(self, store: GraphStore) -> None:
        """Read from `store`; buffer writes in `writes`."""
        self._store = store
        self.writes: list[Statement] = []

    def execute(self, cypher: str, parameters: Mapping[str, Any]) -> None:
        """Buffer a write. Only create nodes and relationships: kuzu 0.11.3 corrupts itself on updates."""
        self.writes.append((cypher, dict(parameters)))

    async def query(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Read now; it may be older than what SQLite holds. Raises StoreUnavailable."""
        return await self._store.query(cypher, parameters)


class Transaction:
    """One transaction: `token` names it, the three handles read and buffer.

    csn and applied are set when it has committed: its place in the order of all commits, and whether every
    store had it by then.
    """

    def __init__(self, token: str, sqlite: SQLiteStore, redis: RedisStore, graph: GraphStore) -> None:
        """Begin with nothing written."""
        self.token = token
        self.sqlite = SQLiteHandle(sqlite)
        self.redis = RedisHandle(redis)
        self.graph = GraphHandle(graph)
        self.csn: int | None = None
        self.applied = False
