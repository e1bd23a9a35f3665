"""A committed transaction as the commit log has it, and what else may become of one that asks to be."""

from __future__ import annotations

from typing import Any

import msgspec

from chaos.errors import ChaosError, StoreError, StoreUnavailable
from chaos.transactions.footprint import Conflict
from chaos.transactions.unit import Transaction


class AlreadyCommitted(ChaosError):
    """The token is in the log already, under `csn`."""

    def __init__(self, token: str, csn: int) -> None:
        """Keep the number it has."""
        self.token = token
        self.csn = csn
        super().__init__(f"committed before as csn={csn}")


class BatchLost(StoreUnavailable):
    """A statement ended the transaction of the whole batch: the disk is full, or it said ON CONFLICT ROLLBACK."""


class WriteSet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a transaction writes outside SQLite: Redis commands as text, and Cypher with its parameters."""

    redis: list[list[str]]
    graph: list[tuple[str, dict[str, Any]]]


class RedoRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A committed transaction. csn: commit sequence number; previous: the one before it in the log, 0 if none."""

    csn: int
    previous: int
    token: str
    writes: WriteSet


Result = RedoRow | AlreadyCommitted | Conflict | StoreError
"""What became of one transaction of a batch before its COMMIT; a StoreError: its rows were undone."""


def write_set(unit: Transaction) -> WriteSet:
    """Return the buffered writes of `unit` for the other stores, in the form that is logged."""
    return WriteSet(
        redis=[[str(part) for part in command] for command in unit.redis.writes],
        graph=[(cypher, dict(parameters)) for cypher, parameters in unit.graph.writes],
    )
