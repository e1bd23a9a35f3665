"""Which tables a statement of SQL reads and writes, and which rows where that can be told for certain.

The tables come from SQLite itself: EXPLAIN lists every table and index that the statement will open, those of views,
triggers and foreign keys too. Rows are told from the words, and only of plain statements: `... FROM t WHERE column = ?
[AND ...]`, `UPDATE t SET ... WHERE column = ?`, `DELETE FROM t WHERE column = ?`, `INSERT INTO t (...) VALUES (...)`.
Whatever else is said is taken for the whole table.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.transactions.granules import Read, Row, Write, comparable, point, table

Fetch = Callable[[str, Sequence[Any]], Awaitable[list[tuple[Any, ...]]]]

_KNOWN_MAX = 4096
_NAME = r"[\"`\[]?(\w+)[\"`\]]?"
_TAIL = r"\s+WHERE\s+(\w+)\s*=\s*\?(?:\s+(?:AND|ORDER\s+BY|LIMIT)\s[^()]*)?\s*;?\s*$"
_SELECT = re.compile(rf"^\s*SELECT\s(.*?)\sFROM\s+{_NAME}{_TAIL}", re.IGNORECASE | re.DOTALL)
_UPDATE = re.compile(rf"^\s*UPDATE\s+{_NAME}\s+SET\s(.*?){_TAIL}", re.IGNORECASE | re.DOTALL)
_DELETE = re.compile(rf"^\s*DELETE\s+FROM\s+{_NAME}{_TAIL}", re.IGNORECASE | re.DOTALL)
_INSERT = re.compile(
    rf"^\s*INSERT\s+(?:OR\s+(?:IGNORE|ABORT|FAIL)\s+)?INTO\s+{_NAME}\s*(?:\(([^()]*)\))?\s*VALUES\s*\(([^()]*)\)\s*;?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_ALTERNATIVES = re.compile(r"\b(?:OR|UNION|EXCEPT|INTERSECT|SELECT|JOIN)\b|--|/\*|'", re.IGNORECASE)
_ASSIGNED = re.compile(r"(?:^|,)\s*[\"`\[]?(\w+)[\"`\]]?\s*=")
_READING = re.compile(r"^\s*(?:SELECT|WITH|VALUES)\b", re.IGNORECASE)
_WRITING = re.compile(r"^\s*(?:INSERT|UPDATE|DELETE|REPLACE|WITH)\b", re.IGNORECASE)


class NotAllowed(ValueError):
    """A statement that has no place in the body of a transaction."""


@dataclass(frozen=True)
class Plan:
    """What is known of a statement.

    columns: names, in lower case, and parameter numbers that tell the row in `single`; place: that table's.
    """

    reads: frozenset[str]
    writes: frozenset[str]
    single: str | None = None
    columns: tuple[tuple[str, int], ...] = ()
    inserts: bool = False
    place: str = ""

    def read_granules(self, parameters: Sequence[Any]) -> tuple[Read, ...]:
        """Return what a reading statement reads."""
        if self.single is not None:
            [(column, number)] = self.columns
            return (point(self.single, column, parameters[number]),)
        return tuple(table(name) for name in sorted(self.reads))

    def write_granules(self, parameters: Sequence[Any]) -> tuple[Write, ...]:
        """Return what a writing statement writes."""
        if self.single is not None:
            known = [(column, parameters[number]) for column, number in self.columns]
            return (Row(self.place, tuple([(column, comparable(one)) for column, one in known if one is not None])),)
        return tuple(table(name) for name in sorted(self.writes))


def demand_reading(sql: str) -> None:
    """Raise NotAllowed unless the statement only reads."""
    if not _READING.match(sql):
        raise NotAllowed(f"sql={sql!r} must begin with SELECT, WITH or VALUES; use execute for writes")


def demand_writing(sql: str) -> None:
    """Raise NotAllowed unless the statement writes rows: it must not end or name the batch's transaction."""
    if not _WRITING.match(sql):
        raise NotAllowed(
            f"sql={sql!r} must begin with INSERT, UPDATE, DELETE, REPLACE or WITH; tables belong to the schema of open"
        )


class Statements:
    """Plans of statements, asked of SQLite once for each text. The schema must not change meanwhile."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._known: dict[str, Plan] = {}

    def known(self, sql: str) -> Plan | None:
        """Return the plan of a statement that was looked at before."""
        return self._known.get(sql)

    async def plan(self, sql: str, parameters: Sequence[Any], fetch: Fetch) -> Plan:
        """Return the plan of a statement, with a look at SQLite by `fetch` the first time. Raises StoreUnavailable."""
        found = self._known.get(sql)
        if found is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            found = self._known[sql] = await _look(sql, parameters, fetch)
        return found


async def _look(sql: str, parameters: Sequence[Any], fetch: Fetch) -> Plan:
    steps = await fetch(f"EXPLAIN {sql}", parameters)
    names: dict[int, str] = dict(
        await fetch("SELECT rootpage, lower(tbl_name) FROM sqlite_master WHERE rootpage > 0", ())
    )
    virtual = [name for (name,) in await fetch("SELECT lower(name) FROM sqlite_master WHERE rootpage = 0", ())]
    reads: set[str] = set()
    writes: set[str] = set()
    has_program = False
    for _, opcode, first, second, *_ in steps:
        if opcode == "OpenRead":
            reads.add(names.get(second, "sqlite_master"))
        elif opcode in ("OpenWrite", "Clear"):
            writes.add(names.get(second if opcode == "OpenWrite" else first, "sqlite_master"))
        elif opcode.startswith("V") and opcode not in ("Variable", "Vacuum", "VerifyCookie"):
            reads.update(virtual)
            writes.update(virtual)
        has_program = has_program or opcode == "Program"
    whole = Plan(frozenset(reads), frozenset(writes))
    if has_program:
        return whole
    return await _narrowed(sql, whole, fetch)


async def _narrowed(sql: str, whole: Plan, fetch: Fetch) -> Plan:
    """Return the plan with the row it concerns, where the words tell one."""
    if (found := _SELECT.match(sql)) and whole.reads == {found[2].lower()} and not whole.writes:
        if _ALTERNATIVES.search(sql[found.start(1) :]):
            return whole
        return _single(whole, found[2], ((found[3], found[1].count("?")),))
    if (found := _UPDATE.match(sql)) and whole.writes == {found[1].lower()}:
        column, words = found[3], found[2]
        changed = {one.lower() for one in _ASSIGNED.findall(words)}
        if column.lower() in changed or _ALTERNATIVES.search(sql):
            return whole
        return _single(whole, found[1], ((column, words.count("?")),))
    if (found := _DELETE.match(sql)) and whole.writes == {found[1].lower()}:
        return whole if _ALTERNATIVES.search(sql) else _single(whole, found[1], ((found[2], 0),))
    if (found := _INSERT.match(sql)) and whole.writes <= {found[1].lower()} and "'" not in sql:
        return await _inserted(found, whole, fetch)
    return whole


async def _inserted(found: re.Match[str], whole: Plan, fetch: Fetch) -> Plan:
    name, listed, values = found[1], found[2], [value.strip() for value in found[3].split(",")]
    if listed is not None:
        names = [column.strip().strip('"`[]') for column in listed.split(",")]
    else:
        names = [column for (column,) in await fetch("SELECT name FROM pragma_table_info(?) ORDER BY cid", (name,))]
    numbers: list[tuple[str, int]] = []
    for column, value in zip(names, values, strict=False):
        if value == "?":
            numbers.append((column, len(numbers)))
    return _single(whole, name, numbers, inserts=True)


def _single(whole: Plan, name: str, columns: Iterable[tuple[str, int]], *, inserts: bool = False) -> Plan:
    named = tuple((column.lower(), number) for column, number in columns)
    return Plan(whole.reads, whole.writes, name, named, inserts, table(name).place)
