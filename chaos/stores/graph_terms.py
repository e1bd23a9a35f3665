"""What the graph store and those who fill it say to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chaos._channel import RemoteError
from chaos.errors import ChaosError, StoreInDoubt, StoreUnavailable
from chaos.stores.graph_engine import Statement
from chaos.stores.graph_files import Plan

_PASSING = ("io exception", "lock", "no space", "memory", "buffer manager", "permission", "too many open", "corrupt")
"""Words in what an engine says when a statement is not to blame."""

_READS = ("applied", "connect", "disconnect", "read", "begin", "end", "base")

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Asks a child that serves nobody else yet. Raises HarnessError or TimeoutError."""


Told = tuple[int, int, str, Sequence[Statement]]
"""A committed transaction: its number, the one before it, its token, its statements."""


class GraphRejected(StoreUnavailable):
    """The engine refused a statement because of its words or of the data; asked again it would do the same."""


@dataclass(frozen=True)
class GraphState:
    """What a child found when it opened the file.

    generation counts the children, so a change means that everything in memory is to be read again. applied
    is the highest number of an applied transaction, None when the database was never seeded. count is how
    many there are, the seed's 0 among them. kept: whether these are the files that were there.
    """

    generation: int
    applied: int | None
    count: int
    kept: bool


class Recovery(Protocol):
    """Who knows what a database should hold."""

    async def plan(self) -> Plan:
        """Say what the next child may open. Raises StoreError."""

    async def fill(self, found: GraphState, ask: Ask) -> int | None:
        """Bring a child that has just opened its files up; return the number of its last transaction.

        Raises StoreError, or what `ask` raises; the child is killed then, and another one is started.
        """


def to_tell(row: Told) -> dict[str, Any]:
    """Return a transaction in the form in which the child is told of it."""
    csn, previous, token, statements = row
    return {"csn": csn, "previous": previous, "token": token, "statements": [list(one) for one in statements]}


def blames_the_statement(error: RemoteError) -> bool:
    """Tell whether an engine's error comes from a statement, and not from what is around the file."""
    text = error.text.lower()
    return error.kind == "Broken" and not any(word in text for word in _PASSING)


def translated(op: str, error: Exception, patience_s: float) -> ChaosError:
    """Say what is known after an error: a reading changed nothing; a writing is gone only when the engine said so."""
    text = f"{op}: no answer within {patience_s:g} s" if isinstance(error, TimeoutError) else f"{op}: {error}"
    gone = isinstance(error, RemoteError) and error.kind in ("Refused", "Broken") and op != "seed"
    if isinstance(error, RemoteError) and op == "apply" and blames_the_statement(error):
        return GraphRejected("graph", text)
    return StoreUnavailable("graph", text) if gone or op in _READS else StoreInDoubt("graph", text)
