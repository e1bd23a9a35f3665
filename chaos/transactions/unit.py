"""A transaction while its body runs: reads go to a snapshot of the stores, writes are kept here until the commit.

Nothing reaches a store before the commit, so an abort has nothing to undo anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.footprint import NOTHING, Footprint
from chaos.transactions.granules import Read, Write
from chaos.transactions.sql import demand_reading, demand_writing
from chaos.workload.base import Statement

Isolation = Literal["serializable", "snapshot"]

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


class View(Protocol):
    """Where a transaction's reads come from."""

    @property
    def csn(self) -> int | None:
        """The number of the snapshot; None while nothing was read, or when there is no snapshot."""

    async def fetch(
        self, unit: Transaction, sql: str, parameters: Sequence[Any], reads: Sequence[Read] | None
    ) -> list[tuple[Any, ...]]:
        """Read SQLite."""

    async def redis(self, unit: Transaction, command: Sequence[str]) -> Any:
        """Run a command that reads one key."""

    async def redis_keys(self, unit: Transaction, prefix: str) -> set[str]:
        """Return the keys with a prefix."""

    async def query(
        self, unit: Transaction, text: str, parameters: Mapping[str, Any], reads: Sequence[Read] | None
    ) -> list[list[Any]]:
        """Read the graph."""


class LatestView:
    """Each read sees the last committed state of its store, and nothing of the transaction's own writes."""

    csn: int | None = None

    def __init__(self, sqlite: SQLiteStore, redis: RedisStore, graph: GraphStore) -> None:
        """Read from these."""
        self._sqlite = sqlite
        self._redis = redis
        self._graph = graph

    async def fetch(
        self, unit: Transaction, sql: str, parameters: Sequence[Any], reads: Sequence[Read] | None
    ) -> list[tuple[Any, ...]]:
        """Read SQLite. Raises StoreUnavailable."""
        return await self._sqlite.fetch(sql, tuple(parameters))

    async def redis(self, unit: Transaction, command: Sequence[str]) -> Any:
        """Run a command that reads one key. Raises StoreUnavailable or StoreInDoubt."""
        return await self._redis.execute(*command)

    async def redis_keys(self, unit: Transaction, prefix: str) -> set[str]:
        """Return the keys with a prefix. Raises StoreUnavailable or StoreInDoubt."""
        return {key for key in await self._redis.execute("KEYS", "*") if key.startswith(prefix)}

    async def query(
        self, unit: Transaction, text: str, parameters: Mapping[str, Any], reads: Sequence[Read] | None
    ) -> list[list[Any]]:
        """Read the graph. Raises StoreUnavailable."""
        return await self._graph.query(text, parameters)


class ReadOnly(TypeError):
    """A write in a transaction that was declared read_only."""


class TransactionEnded(RuntimeError):
    """A read or a write through a handle of a transaction that has ended."""


class _Handle:
    """What the three have in common: whose they are, and whether they may write."""

    __slots__ = ("_of",)

    def __init__(self, unit: Transaction) -> None:
        self._of: Transaction | None = unit

    @property
    def _unit(self) -> Transaction:
        if self._of is None:
            raise TransactionEnded("this handle's transaction has ended; begin another one, and use its handles")
        return self._of

    def end(self) -> None:
        """Let go of the transaction."""
        self._of = None

    def _demand_writable(self) -> None:
        unit = self._unit
        if unit.read_only:
            raise ReadOnly(f"transaction {unit.token} is read_only=True; leave that out to write")


class SQLiteHandle(_Handle):
    """SQLite inside a transaction."""

    __slots__ = ("declared", "writes")

    def __init__(self, unit: Transaction) -> None:
        """Buffer writes in `writes`; `declared` has what some of them are said to write, by their place."""
        super().__init__(unit)
        self.writes: list[tuple[str, tuple[Any, ...]]] = []
        self.declared: dict[int, tuple[Write, ...]] = {}

    def execute(self, sql: str, parameters: Sequence[Any] = (), *, writes: Sequence[Write] | None = None) -> None:
        """Buffer a write: INSERT, UPDATE, DELETE or REPLACE. It runs at the commit, on the newest state.

        writes: what it changes (`granules.row`, `granules.table`), when that is known better than its words tell.
        Raises NotAllowed for other statements, ReadOnly, TransactionEnded.
        """
        demand_writing(sql)
        self._demand_writable()
        if writes is not None:
            self.declared[len(self.writes)] = tuple(writes)
        self.writes.append((sql, tuple(parameters)))

    async def fetch(
        self, sql: str, parameters: Sequence[Any] = (), *, reads: Sequence[Read] | None = None
    ) -> list[tuple[Any, ...]]:
        """Read with one statement, as of the transaction's snapshot and with its own writes.

        A statement that may see rows which the transaction has written runs in SQLite's writer, on top of these
        writes, which are taken back at once; nobody commits meanwhile, so it costs more than others. reads: what
        the statement depends on (`granules.point`, `between`, `table`), when that is known better than its words tell.
        Raises StoreUnavailable, NotAllowed, or TransactionAborted when the transaction must begin anew.
        """
        demand_reading(sql)
        return await self._unit.view.fetch(self._unit, sql, tuple(parameters), reads)


class RedisHandle(_Handle):
    """Redis inside a transaction."""

    __slots__ = ("writes",)

    def __init__(self, unit: Transaction) -> None:
        """Buffer writes in `writes`."""
        super().__init__(unit)
        self.writes: list[tuple[str | int, ...]] = []

    def command(self, name: str, *arguments: str | int) -> None:
        """Buffer a write. Raises ValueError for a command that could not be replayed, ReadOnly, TransactionEnded."""
        if name not in REPLAYABLE_COMMANDS:
            raise ValueError(f"command={name!r} must be one of {', '.join(sorted(REPLAYABLE_COMMANDS))}")
        self._demand_writable()
        self.writes.append((name, *arguments))

    async def get(self, key: str) -> str | None:
        """Read a key as of the snapshot, with the transaction's own writes. Raises like `read`."""
        value: str | None = await self.read("GET", key)
        return value

    async def read(self, name: str, *arguments: str | int) -> Any:
        """Run a command that reads one key, or MGET, as of the snapshot and with the transaction's own writes.

        Raises StoreUnavailable or StoreInDoubt, ValueError for a command that is not in `READING_COMMANDS`, and
        TransactionAborted when the snapshot's value is not kept any more (it was large, or the server has lost it).
        """
        if name not in READING_COMMANDS:
            raise ValueError(f"command={name!r} must be one of {', '.join(sorted(READING_COMMANDS))}")
        if name == "EXISTS" and len(arguments) > 1:
            raise ValueError(f"arguments={arguments!r} of EXISTS must be one key; ask for each")
        if name == "MGET":
            return [await self._unit.view.redis(self._unit, ("GET", str(key))) for key in arguments]
        return await self._unit.view.redis(self._unit, (name, *map(str, arguments)))

    async def keys(self, prefix: str) -> set[str]:
        """Return all keys that begin with `prefix`. The server looks at every key it has. Raises like `read`."""
        return await self._unit.view.redis_keys(self._unit, prefix)


class GraphHandle(_Handle):
    """The graph inside a transaction."""

    __slots__ = ("writes",)

    def __init__(self, unit: Transaction) -> None:
        """Buffer writes in `writes`."""
        super().__init__(unit)
        self.writes: list[Statement] = []

    def execute(self, cypher: str, parameters: Mapping[str, Any]) -> None:
        """Buffer a write. Only create nodes and relationships: kuzu 0.11.3 corrupts itself on updates."""
        self._demand_writable()
        self.writes.append((cypher, dict(parameters)))

    async def query(
        self, cypher: str, parameters: Mapping[str, Any] | None = None, *, reads: Sequence[Read] | None = None
    ) -> list[list[Any]]:
        """Read as of the snapshot. Raises StoreUnavailable, or TransactionAborted when it must begin anew.

        The transaction's own writes cannot be seen: a query of labels that it has written to is refused with
        OwnWritesUnreadable. reads: what the query depends on (`granules.labels_read`), when that is known better.
        """
        return await self._unit.view.query(self._unit, cypher, dict(parameters or {}), reads)


class Transaction:
    """One transaction: `token` names it, the three handles read and buffer.

    csn and applied are set when it has committed: its place in the order of all commits, and whether every
    store had it by then. A read-only transaction has the number of its snapshot. Once it has ended, its handles
    raise TransactionEnded.
    """

    def __init__(
        self,
        token: str,
        sqlite: SQLiteStore,
        redis: RedisStore,
        graph: GraphStore,
        *,
        view: View | None = None,
        isolation: Isolation = "serializable",
        read_only: bool = False,
    ) -> None:
        """Begin with nothing written; without a `view` reads see the last committed state of each store."""
        self.token = token
        self.view: View = view or LatestView(sqlite, redis, graph)
        self.isolation: Isolation = isolation
        self.read_only = read_only
        self.sqlite = SQLiteHandle(self)
        self.redis = RedisHandle(self)
        self.graph = GraphHandle(self)
        self.footprint: Footprint = NOTHING
        self.csn: int | None = None
        self.applied = False

    def end(self) -> None:
        """Let nobody read or write any more. Idempotent; what was buffered stays, since its commit may be under way.

        It also unties the knot of the handles and their transaction. Thousands of knots each second, which only the
        garbage collector can undo, cost as much time as all the rest of a commit.
        """
        for handle in (self.sqlite, self.redis, self.graph):
            handle.end()
