"""What a cache may stand before: one row of SQLite, or one answer of the graph, each as of a known commit."""

from __future__ import annotations

import json
from typing import Any

from chaos.caches.cache import Source, Versioned
from chaos.stores.graph import GraphStore
from chaos.stores.sqlite import SQLiteStore

_NEWEST_COMMIT = "SELECT coalesce(max(csn), 0) FROM commits"
_NEWEST_APPLIED = "MATCH (a:Applied) RETURN max(a.csn)"


def from_sqlite(store: SQLiteStore, sql: str) -> Source:
    """Return a source that runs `sql` with the name as its one parameter; the first row as JSON is the value.

    The commit is the newest in the commit log, read in the same snapshot as the row.
    """

    async def read(name: str) -> Versioned:
        async with store.snapshot() as snapshot:
            [(csn,)] = await snapshot.fetch(_NEWEST_COMMIT)
            return Versioned(int(csn), _text(await snapshot.fetch(sql, (name,))))

    return read


def from_graph(store: GraphStore, cypher: str) -> Source:
    """Return a source that runs `cypher` with the name as `$name`; the first row as JSON is the value.

    The commit is the newest that was applied to the graph, so a value may be behind SQLite's by the graph's own lag,
    and never claims to be newer than it is.
    """

    async def read(name: str) -> Versioned:
        async with store.snapshot() as snapshot:
            [[csn]] = await snapshot.query(_NEWEST_APPLIED)
            return Versioned(int(csn or 0), _text(await snapshot.query(cypher, {"name": name})))

    return read


def _text(rows: Any) -> str | None:
    return json.dumps(list(rows[0])) if rows else None
