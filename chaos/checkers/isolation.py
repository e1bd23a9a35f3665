"""Isolation: whether what transactions read fits an order in which each ran alone, or what else a level promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from chaos.checkers.cycles import anomaly, knots, shortest
from chaos.checkers.dependencies import Edge, EdgeKind, Orders, dependencies, impossible_reads
from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.outcomes import blind_spots
from chaos.checkers.words import count_of, places
from chaos.history.view import History


@dataclass(frozen=True)
class _Isolation:
    """What the three levels share. Needs a workload that tells its reads, such as `workload.Appends`.

    Invalid: a cycle of dependencies that the level forbids, each witnessed by a shortest one per knot; or a read that
    no order allows (see `dependencies.impossible_reads`); or two stores that tell two orders of writing. Unknown: no
    acknowledged transaction told what it read, or the stores were not read.

    details: "anomalies" by name, "reads", "transactions" that told any.
    """

    kinds: ClassVar[tuple[EdgeKind, ...]]
    apart: ClassVar[bool] = False
    promise: ClassVar[str]
    name: ClassVar[str]

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by reads and the order of writes; linear but for the search within knots of violations."""
        told = [one for one in history.transactions.values() if one.reads]
        found = list(self._anomalies(history, context))
        counts = Counter(name for name, _ in found)
        reads = sum(len(one.reads) for one in told)
        named = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        return verdict(
            self.name,
            broken=f"{count_of(len(found), 'violation')} of {self.promise}: {named}",
            witnesses=[witness for _, witness in found[:WITNESS_LIMIT]],
            count=len(found),
            unknown=_unknown(history, context, len(told)),
            holds=f"{count_of(reads, 'read')} by {count_of(len(told), 'transaction')} allow {self.promise}",
            details={"anomalies": dict(counts), "reads": reads, "transactions": len(told)},
        )

    def _anomalies(self, history: History, context: Context) -> Iterator[tuple[str, Witness]]:
        if not history.read_backs:
            return
        orders = Orders(history.read_backs[-1], context.stores)
        yield from (("two orders", witness) for witness in orders.disagreements())
        yield from impossible_reads(history, orders)
        graph = dependencies(history, orders).of(self.kinds)
        for knot in knots(graph):
            cycle = shortest(graph, knot, apart=self.apart)
            if cycle is not None:
                yield anomaly(cycle), _witness(history, cycle)


def _unknown(history: History, context: Context, told: int) -> Iterator[str]:
    yield from blind_spots(history, context.stores)
    if not told:
        yield "no acknowledged transaction told what it read"


def _witness(history: History, cycle: Sequence[Edge]) -> Witness:
    """Tell a cycle as a story: each transaction and why it must come before the next."""
    tokens = list(dict.fromkeys(edge.source for edge in cycle if not edge.source.startswith("@")))
    entries = {index for token in tokens if token in history.transactions for index in _entries(history, token)}
    text = "; ".join(_sentence(edge) for edge in _joined(cycle))
    return Witness(f"a cycle of {count_of(len(tokens), 'transaction')}: {text}", tuple(sorted(entries)), tokens[0])


def _entries(history: History, token: str) -> tuple[int, ...]:
    return places(history, history.transactions[token])


def _joined(cycle: Sequence[Edge]) -> list[Edge]:
    """Return the cycle with each run of real-time edges through moments as one edge between transactions."""
    joined: list[Edge] = []
    start = ""
    for edge in cycle:
        if edge.kind != "rt":
            joined.append(edge)
            continue
        start = start or edge.source
        if not edge.target.startswith("@"):
            joined.append(Edge(start, edge.target, "rt"))
            start = ""
    return joined


def _sentence(edge: Edge) -> str:
    what = {
        "ww": f"{edge.target} wrote object {edge.key} right after {edge.source}",
        "wr": f"{edge.target} read in {edge.store} what {edge.source} wrote to object {edge.key}",
        "rw": f"{edge.source} did not see in {edge.store} what {edge.target} wrote to object {edge.key}",
        "rt": f"{edge.target} was sent after {edge.source} had been acknowledged",
    }
    return what[edge.kind]


@dataclass(frozen=True)
class SnapshotIsolated(_Isolation):
    """Every transaction read one moment, and no two concurrent ones wrote the same object; write skew is allowed."""

    name: ClassVar[str] = "snapshot_isolated"
    kinds: ClassVar[tuple[EdgeKind, ...]] = ("ww", "wr", "rw")
    apart: ClassVar[bool] = True
    promise: ClassVar[str] = "snapshot isolation"


@dataclass(frozen=True)
class Serializable(_Isolation):
    """There is an order in which every transaction could have run alone and read what it read."""

    name: ClassVar[str] = "serializable"
    kinds: ClassVar[tuple[EdgeKind, ...]] = ("ww", "wr", "rw")
    promise: ClassVar[str] = "serializability"


@dataclass(frozen=True)
class StrictSerializable(_Isolation):
    """There is such an order, and in it nobody comes before what was acknowledged before it was sent."""

    name: ClassVar[str] = "strict_serializable"
    kinds: ClassVar[tuple[EdgeKind, ...]] = ("ww", "wr", "rw", "rt")
    promise: ClassVar[str] = "strict serializability"
