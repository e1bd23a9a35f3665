"""The trace that every transaction leaves in every store: its token with a text, the same in all three.

Two of the three keep it apart from the data, so that it is found even where the data were overwritten. In the graph
it is a node that nothing else touches; a graph is only added to, because one of the engines corrupts itself when
updates are rolled back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chaos.workload.base import Graph, KeyValue, Relational, UnitOfWork, Writes

READ_BACK_S = 10.0
"""What a query of a whole graph may take."""

_TRACES = "traces"
SQLITE_SCHEMA = ("CREATE TABLE IF NOT EXISTS traces(token TEXT NOT NULL, mark TEXT NOT NULL)",)
GRAPH_SCHEMA = ("CREATE NODE TABLE IF NOT EXISTS Trace(id SERIAL, token STRING, mark STRING, PRIMARY KEY(id))",)


def leave(txn: UnitOfWork, mark: str) -> None:
    """Buffer the trace of `txn` in each store."""
    txn.sqlite.execute("INSERT INTO traces VALUES (?, ?)", (txn.token, mark))
    txn.redis.command("RPUSH", _TRACES, f"{txn.token} {mark}")
    txn.graph.execute("CREATE (:Trace {token: $token, mark: $mark})", {"token": txn.token, "mark": mark})


def removed(token: str, mark: str) -> Writes:
    """Return the writes that remove the trace."""
    return Writes(
        sqlite=(("DELETE FROM traces WHERE token = ?", (token,)),),
        redis=(("LREM", _TRACES, 1, f"{token} {mark}"),),
        graph=(("MATCH (t:Trace {token: $token}) DELETE t", {"token": token}),),
    )


async def in_sqlite(store: Relational) -> list[tuple[str, str]]:
    """Return token and mark of every trace, in the order of the commits."""
    return [(token, mark) for token, mark in await store.fetch("SELECT token, mark FROM traces ORDER BY rowid")]


async def in_redis(store: KeyValue) -> list[tuple[str, str]]:
    """Return token and mark of every trace, in the order of the commits; none when the key is no list."""
    entries = await items(store, _TRACES)
    return [(token, mark) for token, _, mark in (entry.partition(" ") for entry in entries)]


async def in_graph(store: Graph) -> list[tuple[str, str]]:
    """Return token and mark of every trace, in the order of the commits."""
    rows = await store.query("MATCH (t:Trace) RETURN t.token, t.mark ORDER BY t.id", timeout_s=READ_BACK_S)
    return [(token, mark) for token, mark in rows]


async def items(store: KeyValue, key: str) -> Sequence[str]:
    """Return the elements of a list in Redis; what is of another type counts as lost."""
    if await store.execute("TYPE", key) != "list":
        return ()
    found: list[str] = await store.execute("LRANGE", key, 0, -1)
    return found


def by_token(pairs: Iterable[Sequence[str]]) -> dict[str, list[str]]:
    """Gather the marks of each token; twice in the list when found twice."""
    marks: defaultdict[str, list[str]] = defaultdict(list)
    for token, mark in pairs:
        marks[token].append(mark)
    return dict(marks)


def whole_number(value: Any) -> int | None:
    """Return the number that a place holds; None when it holds none."""
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def joined(*parts: Writes) -> Writes:
    """Return the writes of all parts, one after the other."""
    return Writes(
        sqlite=tuple(write for part in parts for write in part.sqlite),
        redis=tuple(write for part in parts for write in part.redis),
        graph=tuple(write for part in parts for write in part.graph),
    )


def named(numbers: Mapping[int, int | None], noun: str, count: int) -> dict[str, int | None]:
    """Name the number of each object, None where the store has none: a lost object must not go unseen."""
    return {f"{noun}:{n}": numbers.get(n) for n in range(count)}
