"""Declared values for the three stores: the settings of each that matter for what a fault may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from chaos._declare import Declared
from chaos.errors import Problem
from chaos.stores.pool_spec import CONNECTIONS_MAX, Pool


@dataclass(frozen=True)
class StoreSpec(Declared):
    """Base of the declared stores. Class attribute `name`: the store's name in faults, phases and read-backs."""

    name: ClassVar[str]

    def to_config(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, the store's name among them. No pool, no entry."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "where"}
        pool = values.pop("pool", None)
        return {"name": self.name, **values, **({"pool": pool.to_config()} if isinstance(pool, Pool) else {})}

    def bad_pool(self) -> Iterator[Problem]:
        """Yield the problems of attribute `pool`, which may be None."""
        pool = getattr(self, "pool", None)
        if isinstance(pool, Pool):
            yield from pool.problems()
        elif pool is not None:
            yield self.problem(f"pool={pool!r}) must be a stores.Pool", "write pool=stores.Pool(...)", "not-a-pool")


@dataclass(frozen=True)
class SQLite(StoreSpec):
    """The commit log and the relational data; one writer and `readers` read-only connections, in WAL mode.

    pool: how the readers are shared; without it there are always `readers` of them, and with it `readers` is not used.
    snapshots: how many of them may be open at once, each on a connection beside the readers.

    synchronous: FULL syncs the log at every commit; NORMAL only at checkpoints, so a power cut may take the
    last commits back (sqlite.org, "PRAGMA synchronous"); OFF never syncs.
    """

    name: ClassVar[str] = "sqlite"
    synchronous: str = "FULL"
    readers: int = 2
    snapshots: int = 64
    pool: Pool | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield every bad setting."""
        yield from self.bad_choice("synchronous", ("EXTRA", "FULL", "NORMAL", "OFF"))
        yield from self.bad_count("readers", 1, 32)
        yield from self.bad_count("snapshots", 1, CONNECTIONS_MAX)
        yield from self.bad_pool()
        if isinstance(self.pool, Pool) and self.pool.min_size == 0:
            yield self.problem(
                "pool.min_size=0) must be >= 1: the readers are connected when the store is opened",
                "write min_size=1",
                "out-of-range",
            )


@dataclass(frozen=True)
class Redis(StoreSpec):
    """The key-value store, with an append-only file. appendfsync: always, everysec or no (redis.conf).

    pool: how the connections of readers are shared; the one that follows the commit log has its own.
    """

    name: ClassVar[str] = "redis"
    appendfsync: str = "always"
    pool: Pool | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield every bad setting."""
        yield from self.bad_choice("appendfsync", ("always", "everysec", "no"))
        yield from self.bad_pool()


@dataclass(frozen=True)
class Graph(StoreSpec):
    """The graph database, in a child process of its own.

    engine: kuzu or ladybug. buffer_pool_mb and max_db_size_mb bound memory and address space; the engines'
    own defaults are 80 % of the memory and 8 TB. pool: how the reading connections inside the child are shared; a few
    threads serve them all. snapshots: how many may be open at once, each on a connection beside those.
    """

    name: ClassVar[str] = "graph"
    engine: str = "kuzu"
    buffer_pool_mb: int = 64
    max_db_size_mb: int = 1024
    snapshots: int = 64
    pool: Pool | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield every bad setting."""
        yield from self.bad_choice("engine", ("kuzu", "ladybug"))
        yield from self.bad_count("buffer_pool_mb", 16, 65_536)
        yield from self.bad_count("max_db_size_mb", 64, 1_048_576)
        yield from self.bad_count("snapshots", 1, CONNECTIONS_MAX)
        yield from self.bad_pool()
        size = self.max_db_size_mb
        if isinstance(size, int) and size > 0 and size & (size - 1):
            yield self.problem(
                f"max_db_size_mb={size}) must be a power of two", "write 512, 1024 or 2048", "not-a-power-of-two"
            )
