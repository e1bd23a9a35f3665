"""Which transaction must come before which: the graph of dependencies that reads and orders of writing imply.

Edges are those of Adya ("Weak Consistency", MIT 1999, section 3.1): ww, the next writer of an object; wr, who read
what another wrote; rw, who wrote after what another had read; and rt, real time: who began after another had been
acknowledged. What every object was written by, in order, is read off a store after the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from chaos.checkers.model import Witness
from chaos.checkers.words import places, promise
from chaos.history.model import Read
from chaos.history.view import History, Operation, ReadBack

EdgeKind = Literal["ww", "wr", "rw", "rt"]
_STRENGTH: tuple[EdgeKind, ...] = ("ww", "wr", "rw", "rt")


@dataclass(frozen=True, slots=True)
class Edge:
    """`source` comes before `target`. key: the object, "" for real time. store: where it was read, "" for ww and rt."""

    source: str
    target: str
    kind: EdgeKind
    key: str = ""
    store: str = ""


@dataclass
class Dependencies:
    """The graph. edges: by source and target, the strongest kind of each pair first found.

    Names that begin with "@" are moments between transactions, which keep real-time edges few: one per
    acknowledgement and one per start, instead of one per pair.
    """

    edges: dict[str, dict[str, list[Edge]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, edge: Edge) -> None:
        """Add an edge unless the pair has one of its kind; a transaction does not depend on itself."""
        if edge.source == edge.target:
            return
        known = self.edges[edge.source].setdefault(edge.target, [])
        if all(one.kind != edge.kind for one in known):
            known.append(edge)
            known.sort(key=lambda one: _STRENGTH.index(one.kind))

    def of(self, kinds: Iterable[EdgeKind]) -> dict[str, list[Edge]]:
        """Return the strongest edge of every pair that has one of `kinds`, by source."""
        wanted = frozenset(kinds)
        found: dict[str, list[Edge]] = {}
        for source, targets in self.edges.items():
            chosen = [next((one for one in edges if one.kind in wanted), None) for edges in targets.values()]
            found[source] = [edge for edge in chosen if edge is not None]
        return found


class Orders:
    """By object, the tokens of its writers as a store tells them after the run, oldest first."""

    def __init__(self, reading: ReadBack, stores: Sequence[str]) -> None:
        """Take the order of the first store that tells one."""
        told = {store: reading.images[store].order for store in stores if store in reading.images}
        self._told = {store: order for store, order in told.items() if order}
        self.reading = reading
        first = next(iter(self._told.values()), {})
        self.by_key: Mapping[str, Sequence[str]] = first
        self.place = {key: {token: place for place, token in enumerate(tokens)} for key, tokens in first.items()}

    def disagreements(self) -> Iterator[Witness]:
        """Yield a witness for each object that two stores tell in two orders."""
        (first, orders), *others = self._told.items() or [("", {})]
        for store, other in others:
            for key in sorted(orders.keys() | other.keys()):
                if list(orders.get(key, ())) != list(other.get(key, ())):
                    yield Witness(
                        f"object {key}: {first} has the writers {_shown(orders.get(key, ()))}, "
                        f"{store} has {_shown(other.get(key, ()))} (read back in entry {self.reading.index})",
                        (self.reading.index,),
                    )


def dependencies(history: History, orders: Orders) -> Dependencies:
    """Return the graph of every committed transaction; see `impossible_reads` for reads that fit no order."""
    graph = Dependencies()
    for key, tokens in orders.by_key.items():
        for earlier, later in pairwise(tokens):
            graph.add(Edge(earlier, later, "ww", key))
    for operation in history.transactions.values():
        for read in operation.reads:
            _add_read(graph, operation, read, orders)
    _add_real_time(graph, history)
    return graph


def _add_read(graph: Dependencies, operation: Operation, read: Read, orders: Orders) -> None:
    place = orders.place.get(read.key, {})
    tokens = orders.by_key.get(read.key, ())
    known = [writer for writer in read.writers if writer in place]
    if known:
        graph.add(Edge(known[-1], str(operation.token), "wr", read.key, read.store))
    following = place[known[-1]] + 1 if known else 0
    later = [token for token in tokens[following : following + 2] if token != operation.token]
    if later:
        graph.add(Edge(str(operation.token), later[0], "rw", read.key, read.store))


def _add_real_time(graph: Dependencies, history: History) -> None:
    """Chain the moments of all acknowledgements; a transaction follows the last one before it was sent."""
    moments: list[tuple[int, bool, str]] = []
    for token, operation in history.transactions.items():
        moments.append((operation.invoke.index, False, token))
        if operation.kind == "ok" and operation.completion is not None:
            moments.append((operation.completion.index, True, token))
    latest = ""
    for index, is_end, token in sorted(moments):
        if not is_end:
            if latest:
                graph.add(Edge(latest, token, "rt"))
            continue
        moment = f"@{index}"
        graph.add(Edge(token, moment, "rt"))
        if latest:
            graph.add(Edge(latest, moment, "rt"))
        latest = moment


def impossible_reads(history: History, orders: Orders) -> Iterator[tuple[str, Witness]]:
    """Yield reads that no order of the committed transactions allows, with the anomaly's name.

    G1a: something was read that an aborted transaction wrote. lost-write: something that was read is in no store any
    more. incompatible-order: what was read is no beginning of the order in which it was written.
    """
    for operation in history.transactions.values():
        for read in operation.reads:
            found = _impossible(history, read, orders)
            if found is not None:
                name, what = found
                saw = f"read {_shown(read.writers)} of object {read.key} in {read.store}"
                text = f"{promise(history, operation)} and {saw}"
                yield name, Witness(f"{text}; {what}", places(history, operation), operation.token)


def _impossible(history: History, read: Read, orders: Orders) -> tuple[str, str] | None:
    order = orders.by_key.get(read.key, ())
    place = orders.place.get(read.key, {})
    for writer in read.writers:
        if writer in place:
            continue
        wrote = history.transactions.get(writer)
        if wrote is None:
            return "G1a", f"nobody ever sent {writer}"
        if wrote.kind == "fail" or history.resolved(writer) == "aborted":
            return "G1a", f"{writer} was aborted"
        return "lost-write", f"no write of {writer} is there any more"
    if read.whole and list(read.writers) != list(order[: len(read.writers)]):
        return "incompatible-order", f"the writers came in the order {_shown(order[: len(read.writers) + 1])}"
    return None


def _shown(tokens: Sequence[str]) -> str:
    """Return a list of tokens, the middle of a long one left out."""
    few = tokens if len(tokens) <= 6 else [*tokens[:2], "...", *tokens[-3:]]
    return f"[{' '.join(few)}]"
