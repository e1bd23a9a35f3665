"""Many statements that differ in their parameters only, said in one: a batch spends most of its time being parsed.

Only statements that create nodes and look at nothing are put together, since nothing that stands between two of them
can tell the difference; and only neighbours, so that the order of all others stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from chaos.stores.graph_engine import Statement

_CREATE_NODE = re.compile(r"^\s*CREATE\s*\(\s*\w*\s*:\s*\w+\s*\{[^{}()'\"]*\}\s*\)\s*;?\s*$", re.IGNORECASE)
_PARAMETER = re.compile(r"\$(\w+)")
_LEAST = 3
_TYPES = (int, str, float, bool)


def merged(statements: Sequence[Statement]) -> list[Statement]:
    """Return statements that do the same, with each run of equal node creations in one."""
    found: list[Statement] = []
    for (cypher, _), run in groupby(statements, key=_shape):
        some = list(run)
        found += [_together(cypher, [parameters for _, parameters in some])] if _worth_it(cypher, some) else some
    return found


def _shape(statement: Statement) -> tuple[str, tuple[tuple[str, type], ...]]:
    """Return what two statements must have in common: an engine gives a list one type, and kuzu has no nulls in it."""
    cypher, parameters = statement
    return cypher, tuple(sorted(((name, type(value)) for name, value in parameters.items()), key=lambda one: one[0]))


def _worth_it(cypher: str, run: Sequence[Statement]) -> bool:
    if len(run) < _LEAST or not _CREATE_NODE.match(cypher):
        return False
    parameters = run[0][1]
    used = set(_PARAMETER.findall(cypher))
    return bool(used) and used == set(parameters) and all(type(value) in _TYPES for value in parameters.values())


def _together(cypher: str, rows: Sequence[Mapping[str, Any]]) -> Statement:
    names = list(rows[0])
    text = _PARAMETER.sub(lambda match: f"${match[1]}[chaos_row]", cypher)
    return (
        f"UNWIND range(1, size(${names[0]})) AS chaos_row {text}",
        {name: [row[name] for row in rows] for name in names},
    )
