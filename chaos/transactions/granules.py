"""What a transaction reads and writes, in pieces that can be compared: the units of conflict.

A read is a whole place (a table of SQLite, a label or relationship table of the graph), the rows of a table in which a
column has a value or lies in a range, a key of Redis, or all keys with a prefix. A write is a whole place, or one row
of which some columns are known. Whoever knows less declares more: too coarse costs aborts, too fine costs isolation.

They refer to nothing but text and numbers, so the garbage collector need not look at them: tens of thousands are kept
to be compared with, and to go through them all would stop everybody for a tenth of a second, again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

REDIS = "redis"
_KEY = "key"
_GRAPH_ANY = "graph:*"  # everything that is written touches this
_GRAPH_ALL = "graph:!"  # what is written without a label touches this, and every reader looks


class Whole(msgspec.Struct, frozen=True, gc=False):
    """Everything in a place."""

    place: str


class Point(msgspec.Struct, frozen=True, gc=False):
    """Rows in which `column` equals `value`; the value is normalised, see `comparable`."""

    place: str
    column: str
    value: str


class Range(msgspec.Struct, frozen=True, gc=False):
    """Rows in which `column` lies between two numbers, both included; None: no bound. Text never lies in a range."""

    place: str
    column: str
    low: float | None
    high: float | None


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """Keys of Redis that begin with `prefix`."""

    prefix: str
    place: str = REDIS


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row that is written; `columns` are those of which the value is known, before and after."""

    place: str
    columns: tuple[tuple[str, str], ...]


Read = Whole | Point | Range | Prefix
Write = Whole | Row


def comparable(value: Any) -> str:
    """Return text that is equal for values which SQLite may take for equal: 3, 3.0 and "3", "a" and "A "."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value).casefold().rstrip(" ")


def table(name: str) -> Whole:
    """Return the granule of a whole table of SQLite."""
    return Whole(f"sqlite:{name.lower()}")


def point(name: str, column: str, value: Any) -> Point:
    """Return the granule of the rows of a table in which `column` equals `value`."""
    return Point(f"sqlite:{name.lower()}", column.lower(), comparable(value))


def between(name: str, column: str, low: float | None, high: float | None) -> Range:
    """Return the granule of the rows of a table in which `column` is a number from `low` to `high`."""
    return Range(f"sqlite:{name.lower()}", column.lower(), low, high)


def row(name: str, columns: Mapping[str, Any]) -> Row:
    """Return the granule of a written row; leave out columns whose value is not known, or changes."""
    known = tuple((column.lower(), comparable(value)) for column, value in columns.items() if value is not None)
    return Row(f"sqlite:{name.lower()}", known)


def key_read(key: str) -> Point:
    """Return the granule of reading a key of Redis."""
    return Point(REDIS, _KEY, key)


def key_written(key: str) -> Row:
    """Return the granule of writing a key of Redis."""
    return Row(REDIS, ((_KEY, key),))


def labels_read(labels: Iterable[str] | None) -> tuple[Whole, ...]:
    """Return the granules of reading these labels of the graph; None: any of them."""
    if labels is None:
        return (Whole(_GRAPH_ANY),)
    return (Whole(_GRAPH_ALL), *(Whole(f"graph:{label}") for label in labels))


def labels_written(labels: Iterable[str] | None) -> tuple[Whole, ...]:
    """Return the granules of writing these labels of the graph; None: any of them."""
    if labels is None:
        return (Whole(_GRAPH_ALL), Whole(_GRAPH_ANY))
    return (Whole(_GRAPH_ANY), *(Whole(f"graph:{label}") for label in labels))


def overlap(read: Read, write: Write) -> bool:
    """Tell whether what `write` changes may be something that `read` has seen."""
    if read.place != write.place:
        return False
    if isinstance(read, Whole) or isinstance(write, Whole):
        return True
    columns = dict(write.columns)
    if isinstance(read, Prefix):
        return columns[_KEY].startswith(read.prefix)
    value = columns.get(read.column)
    if value is None:
        return True
    return value == read.value if isinstance(read, Point) else _within(read, value)


def same_row(one: Write, other: Write) -> bool:
    """Tell whether two writes may change the same row."""
    if one.place != other.place:
        return False
    if isinstance(one, Whole) or isinstance(other, Whole):
        return True
    columns = dict(other.columns)
    return all(columns.get(column, value) == value for column, value in one.columns)


def _within(read: Range, value: str) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return (read.low is None or read.low <= number) and (read.high is None or number <= read.high)
