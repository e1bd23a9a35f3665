"""Doctors on call: the classic of write skew, over two stores.

Each shift has two doctors, and one of them must be on call. Who wants to leave looks whether the other is there, and
goes. Two who leave at the same time each see the other: every transaction leaves the data right, and both together do
not (Fekete et al., "Making Snapshot Isolation Serializable", TODS 30(2), 2005). The one doctor is looked up in SQLite
and the other in Redis, so that only a coordinator that validates reads in both keeps the rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload import trace
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, WorkRefused, Writes
from chaos.workload.shape import Shape

_ON, _OFF = "on", "off"
_SQLITE_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS doctors(name TEXT PRIMARY KEY, state TEXT NOT NULL, token TEXT NOT NULL)",
)


@dataclass(frozen=True, kw_only=True)
class OnCall(Shape):
    """Doctors of `shifts` shifts who leave and come back. The mark tells who did what, such as "3.1:off"."""

    shifts: int = 8

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from super().problems()
        yield from self.bad_count("shifts", 1, 1000)

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw a doctor; two of three times it is to leave, else to come back."""
        shift, doctor = rng.randrange(self.shifts), rng.randrange(2)
        state = _OFF if rng.random() < 2 / 3 else _ON
        return {"shift": shift, "doctor": doctor, "state": state, "mark": f"{shift}.{doctor}:{state}"}

    def genesis(self) -> Genesis:
        """Return every doctor on call."""
        names = [f"{shift}.{doctor}" for shift in range(self.shifts) for doctor in range(2)]
        return Genesis(
            sqlite_schema=(*trace.SQLITE_SCHEMA, *_SQLITE_SCHEMA),
            graph_schema=trace.GRAPH_SCHEMA,
            rows=Writes(
                sqlite=tuple(("INSERT INTO doctors VALUES (?, ?, '')", (name, _ON)) for name in names),
                redis=tuple(("SET", f"doctor:{name}", f"{_ON} ") for name in names),
            ),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Look at both doctors of the shift, and let one leave when both are on call, or come back.

        Raises WorkRefused when nobody else is on call.
        """
        name, state = f"{spec['shift']}.{spec['doctor']}", spec["state"]
        other = f"{spec['shift']}.{1 - spec['doctor']}"
        [(own_state, own_writer)] = await txn.sqlite.fetch("SELECT state, token FROM doctors WHERE name = ?", (name,))
        other_state, _, other_writer = (await txn.redis.get(f"doctor:{other}") or "").partition(" ")
        if state == _OFF and (own_state, other_state) != (_ON, _ON):
            raise WorkRefused(f"{name} is {own_state} and {other} is {other_state}")
        txn.sqlite.execute("UPDATE doctors SET state = ?, token = ? WHERE name = ?", (state, txn.token, name))
        txn.redis.command("SET", f"doctor:{name}", f"{state} {txn.token}")
        trace.leave(txn, spec["mark"])
        return [
            Read("sqlite", name, [own_writer] if own_writer else [], whole=False),
            Read("redis", other, [other_writer] if other_writer else [], whole=False),
        ]

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the writes that take the trace away; a doctor is put back on call, which is always allowed."""
        name = f"{spec['shift']}.{spec['doctor']}"
        back = Writes(
            sqlite=(("UPDATE doctors SET state = ?, token = '' WHERE name = ?", (_ON, name)),),
            redis=(("SET", f"doctor:{name}", f"{_ON} "),),
        )
        return trace.joined(back, trace.removed(token, spec["mark"]))

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read traces and doctors."""
        rows = await store.fetch("SELECT name, state FROM doctors")
        return self._image(await trace.in_sqlite(store), dict(rows))

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read traces and doctors."""
        names = [f"{shift}.{doctor}" for shift in range(self.shifts) for doctor in range(2)]
        values = await store.execute("MGET", *(f"doctor:{name}" for name in names))
        states = {name: (value or "").partition(" ")[0] for name, value in zip(names, values, strict=True)}
        return self._image(await trace.in_redis(store), states)

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read traces; who is on call follows from them."""
        traces = await trace.in_graph(store)
        states = dict.fromkeys((f"{shift}.{doctor}" for shift in range(self.shifts) for doctor in range(2)), _ON)
        states |= dict(mark.split(":") for _, mark in traces)
        return self._image(traces, states)

    def _image(self, traces: list[tuple[str, str]], states: Mapping[str, str]) -> StoreImage:
        """Tell who is on call, and where the rule was broken, after any of the transactions."""
        order: defaultdict[str, list[str]] = defaultdict(list)
        for token, mark in traces:
            order[mark.partition(":")[0]].append(token)
        counters = {f"on_call:{name}": int(state == _ON) for name, state in sorted(states.items())}
        return StoreImage(
            marks=trace.by_token(traces), order=dict(order), counters=dict(counters), broken=self._broken(traces)
        )

    def _broken(self, traces: list[tuple[str, str]]) -> list[str]:
        """Play the transactions in order, and say when a shift had nobody on call."""
        away: defaultdict[str, set[str]] = defaultdict(set)
        found = []
        for token, mark in traces:
            name, _, state = mark.partition(":")
            shift = name.partition(".")[0]
            (away[shift].add if state == _OFF else away[shift].discard)(name)
            if len(away[shift]) > 1:
                found.append(f"shift {shift} had nobody on call after {token}")
        return found
