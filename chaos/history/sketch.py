"""Writes a history by hand, so that a whole run fits on one screen of a checker's test.

Nothing here is used by a run. Every method adds entries in order, gives them the next index, and returns the
sketch, so that calls chain. `at` is seconds since the run began; without it an entry comes 1 ms after the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.history.assemble import assemble
from chaos.history.model import Entry, Kind
from chaos.history.view import NS_PER_S, History

Marks = Mapping[str, str | list[str]]
"""What a store holds, by token: its mark, or a list when it holds more (or other) than one."""

Reads = Sequence[tuple[str, str, Sequence[str]]]
"""What a transaction read: store, key, and the writers, oldest first."""


class Sketch:
    """A history in the making."""

    def __init__(self) -> None:
        """Start with nothing, at time 0."""
        self.entries: list[Entry] = []
        self._time_ns = 0

    def add(self, kind: Kind, f: str, *, at: float | None = None, **fields: Any) -> Sketch:
        """Add any entry; `fields` are those of `Entry`."""
        self._time_ns = self._time_ns + 1_000_000 if at is None else round(at * NS_PER_S)
        self.entries.append(Entry(index=len(self.entries), time_ns=self._time_ns, kind=kind, f=f, **fields))
        return self

    def invoke(self, process: int, token: str, mark: str | None = None, *, at: float | None = None) -> Sketch:
        """Client `process` sends transaction `token`; its mark is "m-<token>" unless given."""
        return self.add("invoke", "transact", at=at, process=process, token=token, value={"mark": mark or f"m-{token}"})

    def ok(
        self, process: int, token: str, *, applied: bool = True, at: float | None = None, reads: Reads = ()
    ) -> Sketch:
        """It was acknowledged, and told what it had read."""
        told = [{"store": store, "key": key, "writers": list(writers)} for store, key, writers in reads]
        value = {"csn": len(self.entries), "applied": applied} | ({"reads": told} if told else {})
        return self.add("ok", "transact", at=at, process=process, token=token, value=value)

    def fail(
        self, process: int, token: str, error: str = "aborted", *, refused: bool = False, at: float | None = None
    ) -> Sketch:
        """It was reported aborted; `refused`, by a rule of the workload."""
        value = {"refused": True} if refused else None
        return self.add("fail", "transact", at=at, process=process, token=token, value=value, error=error)

    def info(self, process: int, token: str, error: str = "in doubt", *, at: float | None = None) -> Sketch:
        """Its outcome is not known."""
        return self.add("info", "transact", at=at, process=process, token=token, error=error)

    def commit(self, process: int, token: str, *, at: float | None = None, syncs: tuple[int, int] = (0, 1)) -> Sketch:
        """A whole acknowledged transaction, with the sync counts before and after its commit."""
        self.invoke(process, token, at=at)
        self.step("sqlite.committing", token, syncs=syncs[0]).step("sqlite.committed", token, syncs=syncs[1])
        return self.ok(process, token)

    def step(self, f: str, token: str | None, *, syncs: int | None = None, at: float | None = None) -> Sketch:
        """The transaction reached a phase."""
        return self.add("step", f, at=at, token=token, value={"store": f.partition(".")[0], "syncs": syncs})

    def resolve(self, token: str, outcome: str, *, at: float | None = None) -> Sketch:
        """Recovery settled a transaction in doubt as "committed" or "aborted"."""
        return self.add("ok", "resolve", at=at, token=token, value={"outcome": outcome})

    def begin(
        self,
        fault: str,
        kind: str,
        *,
        at: float | None = None,
        lasting: bool = True,
        stops_work: bool = False,
        arguments: Mapping[str, Any] | None = None,
        **more: bool | None,
    ) -> Sketch:
        """A fault begins; it acts on redis. `more` are further fields of its value, such as severs and bounded."""
        value: dict[str, Any] = {"store": "redis", "arguments": dict(arguments or {})}
        value |= {"lasting": lasting, "stops_work": stops_work}
        return self.add("fault_begin", kind, at=at, fault=fault, value=value | more)

    def end(
        self,
        fault: str,
        kind: str,
        *,
        at: float | None = None,
        landed: bool = True,
        struck: float | None = None,
    ) -> Sketch:
        """A fault ends; one byte is its evidence when it landed, and in seconds when it `struck`, if that is given."""
        evidence = {"bytes_held": int(landed)} | ({} if struck is None else {"struck_at_s": struck})
        value = {"evidence": evidence, "landed": landed}
        return self.add("fault_end", kind, at=at, fault=fault, value=value)

    def event(self, f: str, *, at: float | None = None, **value: Any) -> Sketch:
        """Anything else that happened, such as load_stopped or probe."""
        return self.add("event", f, at=at, value=value)

    def agreement(self, agreed: bool, phase: str = "converging", *, at: float | None = None) -> Sketch:
        """The stores' digests were compared; when they differ it is redis that is apart."""
        digests = {"sqlite": "d1", "redis": "d1" if agreed else "d0", "graph": "d1"}
        return self.event("agreement", at=at, agreed=agreed, phase=phase, digests=digests)

    def read_back(
        self,
        occasion: str,
        *,
        counters: Mapping[str, int] | None = None,
        order: Mapping[str, Sequence[str]] | None = None,
        broken: Sequence[str] | None = None,
        **stores: Marks,
    ) -> Sketch:
        """All stores were read; `counters`, `order` and `broken` are reported alike by each of them."""
        images = {
            store: {
                "marks": {token: [mark] if isinstance(mark, str) else list(mark) for token, mark in marks.items()},
                "counters": dict(counters or {}),
                **({} if order is None else {"order": {key: list(tokens) for key, tokens in order.items()}}),
                **({} if broken is None else {"broken": list(broken)}),
            }
            for store, marks in stores.items()
        }
        self.add("invoke", "read_back", value={"occasion": occasion})
        return self.add("ok", "read_back", value={"occasion": occasion, "stores": images})

    def read_both(self, **stores: Marks) -> Sketch:
        """The stores held the same at both readings, the final one and the one after reopening."""
        for occasion in ("final", "reopened"):
            self.read_back(occasion, counters=None, order=None, broken=None, **stores)
        return self

    def history(self) -> History:
        """Return the history; raises PlanError when what was sketched is not well-formed."""
        return assemble(self.entries, source="sketch")
