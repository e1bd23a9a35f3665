"""What a transaction sees: one snapshot of all stores, its own writes on top, and a note of all that it has read.

The snapshot is taken at the first read. When a later read needs more than it has (the graph, or rows that the
transaction itself has written), the transaction moves to a newer one, provided that nothing which it has read so far
was written meanwhile: then its earlier reads are true there as well. Otherwise it is aborted, to be tried again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from chaos.errors import StoreUnavailable, TransactionAborted
from chaos.transactions import cypher
from chaos.transactions.footprint import Footprint, footprint
from chaos.transactions.granules import Prefix, Read, Write, key_read, key_written, overlap
from chaos.transactions.redis_snapshot import SnapshotMissed
from chaos.transactions.snapshots import Snapshot, Snapshots
from chaos.transactions.sql import Statements
from chaos.transactions.window import Window

if TYPE_CHECKING:
    from chaos.transactions.applier import Applier
    from chaos.transactions.commit_log import CommitLog
    from chaos.transactions.leader import Leader
    from chaos.transactions.stores import Stores
    from chaos.transactions.unit import Transaction

_TRIES = 5
"""Attempts to find a moment in which nobody commits, to read what the transaction itself has written."""


class RedisReading(Protocol):
    """Reads Redis as of a number. Both raise SnapshotMissed, StoreUnavailable or StoreInDoubt."""

    async def read(self, csn: int, command: Sequence[str], own: Sequence[Sequence[str]]) -> object:
        """Run a reading command on its key as it was at `csn`, with the commands `own` on top of it."""

    async def keys(self, csn: int, prefix: str) -> set[str]:
        """Return the keys with a prefix that existed at `csn`."""


class Desk:
    """What all views share: the stores and how Redis is read, the snapshots, the recent writes, and the leader."""

    def __init__(
        self,
        stores: Stores,
        redis: RedisReading,
        snapshots: Snapshots,
        window: Window,
        statements: Statements,
        leader: Leader,
    ) -> None:
        """Keep them."""
        self.stores = stores
        self.redis = redis
        self.snapshots = snapshots
        self.window = window
        self.statements = statements
        self.leader = leader


class SnapshotView:
    """The view of one transaction. `reads`: all that it has seen; `csn`: as of when, None while it has read nothing."""

    def __init__(self, token: str, desk: Desk, redis: Applier, log: CommitLog) -> None:
        """See nothing yet. `redis`: the applier, which tells when Redis is up to a snapshot."""
        self._token = token
        self._desk = desk
        self._redis = redis
        self._log = log
        self._snapshot: Snapshot | None = None
        self._closed = False
        self.reads: set[Read] = set()

    @property
    def csn(self) -> int | None:
        """The number of the snapshot; None while nothing was read."""
        return self._snapshot.csn if self._snapshot is not None else None

    def close(self) -> None:
        """Give the snapshot back. Idempotent; the number and the reads stay known, but nothing can be read any more."""
        if self._snapshot is not None and not self._closed:
            self._desk.snapshots.release(self._snapshot)
        self._closed = True

    async def fetch(
        self, unit: Transaction, sql: str, parameters: Sequence[Any], reads: Sequence[Read] | None
    ) -> list[tuple[Any, ...]]:
        """Read SQLite; see `SQLiteHandle.fetch`."""
        snapshot = await self._at()
        with _marking(snapshot):
            plan = await self._desk.statements.plan(sql, parameters, snapshot.sqlite.fetch)
        found = tuple(reads) if reads is not None else plan.read_granules(parameters)
        own = [granule for granules, _ in await self._own_sqlite(unit) for granule in granules]
        self.reads.update(found)
        if _touched(found, own):
            return await self._fetch_own(unit, sql, parameters)
        assert self._snapshot is not None
        with _marking(self._snapshot):
            return await self._snapshot.sqlite.fetch(sql, tuple(parameters))

    async def footprint(self, unit: Transaction) -> Footprint:
        """Return what the transaction has touched. Raises StoreUnavailable for a statement that is wrong."""
        return footprint(
            since=self.csn,
            reads=frozenset(self.reads),
            sqlite=await self._own_sqlite(unit),
            redis=[(str(one[0]), tuple(map(key_written, _keys(one)))) for one in unit.redis.writes],
            graph=[(cypher.writes(text), cypher.only_creates(text)) for text, _ in unit.graph.writes],
        )

    async def _own_sqlite(self, unit: Transaction) -> list[tuple[tuple[Write, ...], bool]]:
        """Return the granules of the buffered writes to SQLite, each with whether it only adds."""
        fetch = self._snapshot.sqlite.fetch if self._snapshot is not None else self._desk.stores.sqlite.fetch
        found = []
        for number, (sql, parameters) in enumerate(unit.sqlite.writes):
            plan = self._desk.statements.known(sql) or await self._desk.statements.plan(sql, parameters, fetch)
            declared = unit.sqlite.declared.get(number)
            found.append((plan.write_granules(parameters) if declared is None else declared, plan.inserts))
        return found

    async def redis(self, unit: Transaction, command: Sequence[str]) -> Any:
        """Read one key of Redis; see `RedisHandle.read`."""
        snapshot = await self._at()
        key = command[1]
        self.reads.add(key_read(key))
        own = _own_commands(unit, key)
        return await self._ask_redis(lambda: self._desk.redis.read(snapshot.csn, command, own))

    async def redis_keys(self, unit: Transaction, prefix: str) -> set[str]:
        """Return the keys with a prefix; see `RedisHandle.keys`."""
        snapshot = await self._at()
        self.reads.add(Prefix(prefix))
        found: set[str] = await self._ask_redis(lambda: self._desk.redis.keys(snapshot.csn, prefix))
        for key in {key for command in unit.redis.writes for key in _keys(command) if key.startswith(prefix)}:
            if await self.redis(unit, ("EXISTS", key)):
                found.add(key)
            else:
                found.discard(key)
        return found

    async def query(
        self, unit: Transaction, text: str, parameters: Mapping[str, Any], reads: Sequence[Read] | None
    ) -> list[list[Any]]:
        """Read the graph; see `GraphHandle.query`."""
        found = tuple(reads) if reads is not None else cypher.reads(text)
        for written, _ in unit.graph.writes:
            if _touched(found, cypher.writes(written)):
                raise OwnWritesUnreadable(
                    f"cypher={text!r} may see what this transaction has written ({written!r}); read before writing"
                )
        snapshot = await self._at(graph=True)
        assert snapshot.graph is not None
        self.reads.update(found)
        with _marking(snapshot):
            return await snapshot.graph.query(text, parameters)

    async def _at(self, *, graph: bool = False) -> Snapshot:
        """Return the snapshot to read from; the first time it is taken, and exchanged when it lacks the graph."""
        if self._closed:
            raise StoreUnavailable("transaction", f"{self._token} has ended")
        if self._snapshot is None or (graph and self._snapshot.graph is None):
            self._move(await self._desk.snapshots.acquire(graph=graph))
        assert self._snapshot is not None
        return self._snapshot

    def _move(self, newer: Snapshot) -> None:
        """Go over to a newer snapshot. Raises TransactionAborted when what was read is no longer true there."""
        older, self._snapshot = self._snapshot, newer
        if older is None:
            return
        self._desk.snapshots.release(older)
        if older.csn == newer.csn:
            return
        read = self._desk.window.read_meanwhile(self.reads, older.csn)
        if older.csn < self._desk.window.oldest or read is not None:
            raise TransactionAborted(self._token, f"conflict: {read} was written after csn={older.csn}", retryable=True)

    async def _fetch_own(self, unit: Transaction, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run the buffered writes and the statement in SQLite's writer, and take the writes back."""

        def run(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            for write, values in unit.sqlite.writes:
                connection.execute(write, values)
            return connection.execute(sql, tuple(parameters)).fetchall()

        for _ in range(_TRIES):
            has_graph = self._snapshot is not None and self._snapshot.graph is not None
            newer = await self._desk.snapshots.acquire(graph=has_graph)
            async with self._desk.leader.still:
                if newer.csn != self._log.last_csn:
                    self._desk.snapshots.release(newer)
                    continue
                self._move(newer)
                async with self._desk.stores.sqlite.write() as transaction:
                    return await transaction.run(run)
        raise TransactionAborted(self._token, "conflict: others commit without pause", retryable=True)

    async def _ask_redis(self, ask: Callable[[], Any]) -> Any:
        while True:
            try:
                return await ask()
            except SnapshotMissed as error:
                if not error.behind:
                    raise TransactionAborted(self._token, f"conflict: {error}", retryable=True) from error
                assert self._snapshot is not None
                await self._redis.wait_for(self._snapshot.csn)


class OwnWritesUnreadable(ValueError):
    """A query of the graph that may see writes which the transaction itself has buffered."""


@contextmanager
def _marking(snapshot: Snapshot) -> Iterator[None]:
    """Note when the block shows that a snapshot may be of no use any more: its child died, its file was reopened."""
    try:
        yield
    except StoreUnavailable:
        snapshot.broken = True
        raise


def _touched(reads: Sequence[Read], writes: Sequence[Write]) -> bool:
    return any(overlap(read, write) for read in reads for write in writes)


def _keys(command: Sequence[str | int]) -> list[str]:
    return [str(part) for part in (command[1:] if command[0] == "DEL" else command[1:2])]


def _own_commands(unit: Transaction, key: str) -> list[list[str]]:
    return [[str(part) for part in command] for command in unit.redis.writes if key in _keys(command)]
