"""What a workload is: how a transaction is drawn, what it does, and how its traces are read back.

A workload knows the shape of the data and nothing of coordinators: it writes through a `UnitOfWork`, which each
coordinator implements in its own way, and reads back through a `Reader` of each store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from chaos._declare import Duration
from chaos.history.model import Read, StoreImage

Statement = tuple[str, Mapping[str, Any]]


class WorkRefused(Exception):
    """The transaction decided by itself not to happen (too little money); nothing was written."""


class RelationalHandle(Protocol):
    """SQLite inside a transaction."""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Buffer a write."""

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read the committed state now; the transaction's own writes are not in it."""


class KeyValueHandle(Protocol):
    """Redis inside a transaction."""

    def command(self, name: str, *arguments: str | int) -> None:
        """Buffer a writing command."""

    async def get(self, key: str) -> str | None:
        """Read a key now; None when it does not exist."""

    async def read(self, name: str, *arguments: str | int) -> Any:
        """Run a reading command now. Raises ValueError for a command that is not known to read only."""


class GraphHandle(Protocol):
    """The graph inside a transaction."""

    def execute(self, cypher: str, parameters: Mapping[str, Any]) -> None:
        """Buffer a write."""

    async def query(self, cypher: str, parameters: Mapping[str, Any]) -> list[list[Any]]:
        """Read now."""


class UnitOfWork(Protocol):
    """A transaction as its body sees it."""

    @property
    def token(self) -> str:
        """The name of this transaction, unique in the run."""

    @property
    def sqlite(self) -> RelationalHandle:
        """SQLite."""

    @property
    def redis(self) -> KeyValueHandle:
        """Redis."""

    @property
    def graph(self) -> GraphHandle:
        """The graph."""


@dataclass(frozen=True)
class Writes:
    """Writes to each store, in order."""

    sqlite: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    redis: tuple[tuple[str | int, ...], ...] = ()
    graph: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Genesis:
    """What every store holds before the first transaction. `*_schema` may be run more than once."""

    sqlite_schema: tuple[str, ...]
    graph_schema: tuple[str, ...]
    rows: Writes


class Relational(Protocol):
    """Direct reading of SQLite."""

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows."""


class KeyValue(Protocol):
    """Direct reading of Redis."""

    async def execute(self, *arguments: str | int | bytes) -> Any:
        """Send one command."""


class Graph(Protocol):
    """Direct reading of the graph."""

    async def query(
        self, cypher: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> list[list[Any]]:
        """Return all rows."""


class Workload(Protocol):
    """A declared workload."""

    @property
    def clients(self) -> int:
        """Logical processes, each with one transaction at a time."""

    @property
    def rate(self) -> float:
        """Transactions per second over all clients."""

    @property
    def arrivals(self) -> str:
        """Either "closed" or "open"; see `chaos.workload.shape.Shape`."""

    @property
    def seconds(self) -> Duration:
        """How long the load lasts: seconds, or text such as "5s"."""

    @property
    def deadline_s(self) -> float:
        """Seconds that each transaction may take."""

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw the parameters of one transaction as plain JSON values; "mark" is the text all stores shall hold.

        All randomness comes from `rng`, the client's own stream; `ordinal` is 0-based within the process.
        """

    def to_config(self) -> dict[str, Any]:
        """Return everything `chaos.workload.load` needs to make the workload again in another process."""

    def genesis(self) -> Genesis:
        """Return schema and first rows of each store."""

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Read what is needed and buffer the writes of the transaction `spec`; return what was read, for the checks.

        An empty answer keeps the transaction out of checks of isolation. Raises WorkRefused.
        """

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that take the transaction back, for a coordinator that compensates."""

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read what SQLite holds."""

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read what Redis holds."""

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read what the graph holds."""
