"""Writes a batch of transactions into SQLite: their own rows, their places in the log, and what other stores will get.

**All together, or each for itself.** A batch is written in one go, with a few long statements for the log's own rows,
since each statement on the writer's thread hands the interpreter's lock to and fro, which costs more than the rows do.
When anything in it fails, all of it is undone, and each transaction is written again inside a savepoint of its own, so
that one whose rows the data do not allow is undone alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chaos.stores.sqlite_calls import unavailable
from chaos.transactions.footprint import Validation
from chaos.transactions.rows import AlreadyCommitted, BatchLost, RedoRow, Result, WriteSet
from chaos.transactions.unit import Transaction

Entry = tuple[Transaction, WriteSet]


class Appender:
    """The numbers that a batch goes on from. last: the newest commit in the log; floor: the highest that is taken."""

    def __init__(self, connection: sqlite3.Connection, last: int, floor: int) -> None:
        """Use `connection`, in which a transaction is open, on its own thread."""
        self._connection = connection
        self._last = last
        self._floor = floor

    def append(self, entries: Sequence[Entry], validation: Validation | None) -> list[Result]:
        """Write what may be written; return what became of each. Raises BatchLost when nothing is left of any."""
        self._connection.execute("SAVEPOINT batch")
        try:
            results = self._together(entries, validation)
        except (sqlite3.Error, ValueError) as error:
            self._demand_transaction(error)
            self._connection.execute("ROLLBACK TO batch")
            results = self._each(entries, validation.anew() if validation is not None else None)
        self._connection.execute("RELEASE batch")
        return results

    def _together(self, entries: Sequence[Entry], validation: Validation | None) -> list[Result]:
        known = self._known([unit.token for unit, _ in entries])
        previous = self._last
        results: list[Result] = []
        rows: list[RedoRow] = []
        for unit, writes in entries:
            result: Result
            if (csn := known.get(unit.token)) is not None:
                result = AlreadyCommitted(unit.token, csn)
            elif validation is not None and (objection := validation.check(unit)) is not None:
                result = objection
            else:
                for sql, parameters in unit.sqlite.writes:
                    self._connection.execute(sql, parameters)
                result = self._row(unit, writes, previous)
                known[unit.token] = previous = result.csn
                rows.append(result)
                if validation is not None:
                    validation.accept(unit)
            results.append(result)
        self._insert("commits", [(row.csn, row.token) for row in rows])
        self._insert("redo", [(row.csn, row.previous, row.token, _text(row)) for row in rows])
        return results

    def _each(self, entries: Sequence[Entry], validation: Validation | None) -> list[Result]:
        previous = self._last
        results: list[Result] = []
        for unit, writes in entries:
            result = self._one(unit, self._row(unit, writes, previous), validation)
            if isinstance(result, RedoRow):
                previous = result.csn
            results.append(result)
        return results

    def _one(self, unit: Transaction, row: RedoRow, validation: Validation | None) -> Result:
        """Write one transaction inside a savepoint; on an error undo it. Raises BatchLost when that took all others."""
        known = self._known([unit.token])
        if known:
            return AlreadyCommitted(unit.token, known[unit.token])
        objection = validation.check(unit) if validation is not None else None
        if objection is not None:
            return objection
        self._connection.execute("SAVEPOINT one")
        try:
            for sql, parameters in unit.sqlite.writes:
                self._connection.execute(sql, parameters)
            self._insert("commits", [(row.csn, row.token)])
            self._insert("redo", [(row.csn, row.previous, row.token, _text(row))])
        except (sqlite3.Error, ValueError) as error:
            self._demand_transaction(error)
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return unavailable(error)
        self._connection.execute("RELEASE one")
        if validation is not None:
            validation.accept(unit)
        return row

    def _row(self, unit: Transaction, writes: WriteSet, previous: int) -> RedoRow:
        return RedoRow(csn=max(previous, self._floor) + 1, previous=previous, token=unit.token, writes=writes)

    def _known(self, tokens: Sequence[str]) -> dict[str, int]:
        """Return the numbers of those tokens that are in the log."""
        found: dict[str, int] = {}
        for some in _powers_of_two(tokens):
            marks = ", ".join("?" * len(some))
            found |= self._connection.execute(f"SELECT token, csn FROM commits WHERE token IN ({marks})", some)  # noqa: S608  # marks only
        return found

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for some in _powers_of_two(rows):
            marks = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
            self._connection.execute(f"INSERT INTO {table} VALUES {marks}", [value for row in some for value in row])  # noqa: S608  # marks only

    def _demand_transaction(self, error: Exception) -> None:
        if not self._connection.in_transaction:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise BatchLost("sqlite", f"{name}: {error}") from error


def _text(row: RedoRow) -> str:
    return msgspec.json.encode(row.writes).decode()


def _powers_of_two(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield all items in pieces of 64, 32, 16 ... 1: so few statements are prepared that all of them are kept."""
    at = 0
    while at < len(items):
        size = min(64, 1 << (len(items) - at).bit_length() - 1)
        yield items[at : at + size]
        at += size
