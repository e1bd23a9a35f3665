"""A cache beside the truth: rows in SQLite, and Redis keeps what was read of them.

Who reads looks into Redis first; when nothing is there he reads the row and puts it there. Who writes changes the row,
and in the same transaction the cache: he writes it through, or takes the entry away. A reader that is slow to fill puts
back what a writer has replaced meanwhile, unless the coordinator sees that what was read is no longer true; and a
writer who is told that he has committed must not be told an older row afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload import trace
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, Writes
from chaos.workload.shape import Keys

OnWrite = Literal["through", "invalidate"]
ON_WRITE: tuple[str, ...] = ("through", "invalidate")
_NOBODY = ""
_READ, _WRITE = "read", "write"
_SQLITE_SCHEMA = ("CREATE TABLE IF NOT EXISTS items(key INTEGER PRIMARY KEY, token TEXT NOT NULL)",)


@dataclass(frozen=True, kw_only=True)
class Cached(Keys):
    """Transactions that read one of `keys` items through a cache, or, a share `writes` of them, overwrite it.

    on_write: "through", the writer puts the new row into the cache; "invalidate", he takes the entry away, and whoever
    reads next fills it again. The cache is empty at first. The mark tells it, such as "read:3".
    """

    writes: float = 0.25
    on_write: OnWrite = "invalidate"

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_number("writes", 0.0, 1.0)
        yield from self.bad_choice("on_write", ON_WRITE)

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw an item, and whether to read or to write it."""
        [key] = self.choose(rng)
        what = _WRITE if rng.random() < self.writes else _READ
        return {"what": what, "key": key, "mark": f"{what}:{key}"}

    def genesis(self) -> Genesis:
        """Return items that nobody has written, none of them in the cache."""
        items = tuple(("INSERT INTO items VALUES (?, ?)", (key, _NOBODY)) for key in range(self.keys))
        return Genesis(
            sqlite_schema=(*trace.SQLITE_SCHEMA, *_SQLITE_SCHEMA),
            graph_schema=trace.GRAPH_SCHEMA,
            rows=Writes(sqlite=items),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Read through the cache and fill it, or overwrite; return what the reader was told."""
        key, entry = spec["key"], f"cache:{spec['key']}"
        trace.leave(txn, spec["mark"])
        if spec["what"] == _WRITE:
            txn.sqlite.execute("UPDATE items SET token = ? WHERE key = ?", (txn.token, key))
            txn.redis.command(*(("SET", entry, txn.token) if self.on_write == "through" else ("DEL", entry)))
            return ()
        store, writer = "redis", await txn.redis.get(entry)
        if writer is None:
            store = "sqlite"
            [(writer,)] = await txn.sqlite.fetch("SELECT token FROM items WHERE key = ?", (key,))
            txn.redis.command("SET", entry, writer)
        return [Read(store, str(key), [writer] if writer else [], whole=False)]

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that take the trace and the entry away; what the row held before cannot be known any more.

        An entry that is not there is always right.
        """
        entry = Writes(redis=(("DEL", f"cache:{spec['key']}"),))
        return trace.joined(entry, trace.removed(token, spec["mark"]))

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read traces and rows."""
        traces = await trace.in_sqlite(store)
        held = dict(await store.fetch("SELECT key, token FROM items"))
        last = self._last(traces)
        wrong = [
            f"item {key} holds {held.get(key) or 'nothing'}, and its last writer was {last[key] or 'nobody'}"
            for key in range(self.keys)
            if held.get(key) != last[key]
        ]
        return _image(traces, wrong)

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read traces and the cache; an entry that is not there breaks no rule."""
        traces = await trace.in_redis(store)
        values = await store.execute("MGET", *(f"cache:{key}" for key in range(self.keys)))
        last = self._last(traces)
        wrong = [
            f"the cache holds item {key} of {value or 'nobody'}, and its last writer was {last[key] or 'nobody'}"
            for key, value in enumerate(values)
            if value is not None and value != last[key]
        ]
        return _image(traces, wrong)

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read traces."""
        return _image(await trace.in_graph(store), [])

    def _last(self, traces: Sequence[tuple[str, str]]) -> dict[int, str]:
        """Return the last writer of every item."""
        written = {int(mark.partition(":")[2]): token for token, mark in traces if mark.startswith(_WRITE)}
        return {key: written.get(key, _NOBODY) for key in range(self.keys)}


def _image(traces: list[tuple[str, str]], broken: list[str]) -> StoreImage:
    order: defaultdict[str, list[str]] = defaultdict(list)
    for token, mark in traces:
        what, _, key = mark.partition(":")
        if what == _WRITE:
            order[key].append(token)
    return StoreImage(marks=trace.by_token(traces), order=dict(order), broken=broken)
