"""Declared values for the three stores: the settings of each that matter for what a fault may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from chaos._declare import Declared
from chaos.errors import Problem


@dataclass(frozen=True)
class StoreSpec(Declared):
    """Base of the declared stores. Class attribute `name`: the store's name in faults, phases and read-backs."""

    name: ClassVar[str]

    def to_config(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, the store's name among them."""
        values = asdict(self)
        del values["where"]
        return {"name": self.name, **values}


@dataclass(frozen=True)
class SQLite(StoreSpec):
    """The commit log and the relational data; one writer and `readers` read-only connections, in WAL mode.

    synchronous: FULL syncs the log at every commit; NORMAL only at checkpoints, so a power cut may take the
    last commits back (sqlite.org, "PRAGMA synchronous"); OFF never syncs.
    """

    name: ClassVar[str] = "sqlite"
    synchronous: str = "FULL"
    readers: int = 2

    def problems(self) -> Iterator[Problem]:
        """Yield every bad setting."""
        yield from self.bad_choice("synchronous", ("EXTRA", "FULL", "NORMAL", "OFF"))
        yield from self.bad_count("readers", 1, 32)


@dataclass(frozen=True)
class Redis(StoreSpec):
    """The key-value store, with an append-only file. appendfsync: always, everysec or no (redis.conf)."""

    name: ClassVar[str] = "redis"
    appendfsync: str = "always"

    def problems(self) -> Iterator[Problem]:
        """Yield every bad setting."""
        yield from self.bad_choice("appendfsync", ("always", "everysec", "no"))


@dataclass(frozen=True)
class Graph(StoreSpec):
    """The graph database, in a child process of its own.

    engine: kuzu or ladybug. buffer_pool_mb and max_db_size_mb bound memory and address space; the engines'
    own defaults are 80 % of the memory and 8 TB.
    """

    name: ClassVar[str] = "graph"
    engine: str = "kuzu"
    buffer_pool_mb: int = 64
    max_db_size_mb: int = 1024

    def problems(self) -> Iterator[Problem]:
        """Yield every bad setting."""
        yield from self.bad_choice("engine", ("kuzu", "ladybug"))
        yield from self.bad_count("buffer_pool_mb", 16, 65_536)
        yield from self.bad_count("max_db_size_mb", 64, 1_048_576)
        size = self.max_db_size_mb
        if isinstance(size, int) and size > 0 and size & (size - 1):
            yield self.problem(
                f"max_db_size_mb={size}) must be a power of two", "write 512, 1024 or 2048", "not-a-power-of-two"
            )
