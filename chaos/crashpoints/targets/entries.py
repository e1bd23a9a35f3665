"""The data that the built-in workloads write: small transactions of several rows, checkable to the last byte.

Transaction n consists of a few rows, some of many, whose payloads follow from n and the row's number alone, and it
moves a counter, which begins at 1 because making the schema counts as a transaction too, number 0. Sizes vary
from a few bytes to more than a page, so that commits cross sectors and pages.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from functools import cache

from chaos.crashpoints.judge import Observation

SCHEMA = "0"
_SIZES = (24, 180, 700, 60, 1500, 90, 5000, 300)
_FEW, _MANY = 3, 24

Row = tuple[int, int, str]
"""Transaction, part, payload."""


@cache
def rows(number: int) -> tuple[Row, ...]:
    """Return the rows of transaction `number`, the same on every machine; every seventh has many."""
    count = _MANY if number % 7 == 3 else _FEW
    return tuple((number, part, _payload(number, part)) for part in range(count))


def is_given_up(number: int) -> bool:
    """Tell whether the workloads roll `number` back instead of committing it."""
    return number % 6 == 5


def next_number(seen: Observation) -> int:
    """Return the number to go on with: the one above all that are there."""
    return max((int(name) for name in seen.found), default=0) + 1


def sorted_out(found: Iterable[Iterable[object]], counter: int | None, problems: Iterable[str] = ()) -> Observation:
    """Say which transactions are whole and which are not, given all rows (transaction, part, payload) of a scan."""
    by_number: dict[object, list[tuple[object, object]]] = defaultdict(list)
    for number, part, text in found:
        by_number[number].append((part, text))
    whole, partial, trouble = [SCHEMA], {}, list(problems)
    for number, parts in by_number.items():
        if not isinstance(number, int) or not 0 < number < 1 << 20:
            trouble.append(f"a row of transaction {number!r:.40}")
            continue
        expected = _expected(number)
        if len(parts) == len(expected) and expected == frozenset(parts):
            whole.append(str(number))
        else:
            partial[str(number)] = _compared(parts, expected)
    return Observation(found=tuple(whole), partial=partial, counter=counter, problems=tuple(trouble))


@cache
def _expected(number: int) -> frozenset[tuple[object, object]]:
    return frozenset((part, text) for _, part, text in rows(number))


def _compared(parts: list[tuple[object, object]], expected: frozenset[tuple[object, object]]) -> str:
    right = len(expected.intersection(parts))
    wrong = len(parts) - right
    text = f"{right} of {len(expected)} rows"
    return f"{text}, and {wrong} that are wrong or doubled" if wrong else text


def _payload(number: int, part: int) -> str:
    size = _SIZES[(number * _FEW + part) % len(_SIZES)] if part < _FEW else 100
    text = hashlib.sha256(f"{number}/{part}".encode()).hexdigest()
    return (text * (size // len(text) + 1))[:size]
