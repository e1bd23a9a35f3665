"""Cycles in a graph of dependencies: transactions that would each have to come before the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from chaos.checkers.dependencies import Edge

_STARTS_MAX = 64
"""From how many transactions of a knot the shortest cycle is looked for; a longer one is still a cycle."""

Graph = Mapping[str, Sequence[Edge]]


def knots(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components of more than one node, in no particular order.

    Tarjan's algorithm ("Depth-First Search and Linear Graph Algorithms", SIAM J. Comput. 1(2), 1972), without
    recursion. Linear in the edges.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for root in list(graph):
        if root in index:
            continue
        work: list[tuple[str, Iterator[Edge]]] = [(root, iter(graph.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, edges = work[-1]
            edge = next(edges, None)
            if edge is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    found.append(_component(node, stack, on_stack))
            elif edge.target not in index:
                index[edge.target] = low[edge.target] = len(index)
                stack.append(edge.target)
                on_stack.add(edge.target)
                work.append((edge.target, iter(graph.get(edge.target, ()))))
            elif edge.target in on_stack:
                low[node] = min(low[node], index[edge.target])
    return [component for component in found if len(component) > 1]


def _component(node: str, stack: list[str], on_stack: set[str]) -> list[str]:
    component = []
    while True:
        one = stack.pop()
        on_stack.discard(one)
        component.append(one)
        if one == node:
            return component


def shortest(graph: Graph, knot: Sequence[str], *, apart: bool = False) -> list[Edge] | None:
    """Return a shortest cycle within `knot`, as its edges in order; None when there is none.

    apart: look only for cycles in which no two rw edges follow each other, the first and the last included. Those are
    what snapshot isolation forbids (Fekete et al., "Making Snapshot Isolation Serializable", TODS 30(2), 2005: theorem
    2.1 says that every other one has two in a row). Such a cycle may pass through a transaction twice.
    """
    inside = set(knot)
    best: list[Edge] | None = None
    for start in sorted(one for one in knot if not one.startswith("@"))[:_STARTS_MAX]:
        cycle = _cycle(graph, start, inside, apart)
        if cycle is not None and (best is None or len(cycle) < len(best)):
            best = cycle
    return best


def _cycle(graph: Graph, start: str, inside: set[str], apart: bool) -> list[Edge] | None:
    """Search breadth first from `start` back to it; a state is a node and whether the first and last edge were rw."""
    begun: tuple[str, bool, bool] = (start, False, False)
    came: dict[tuple[str, bool, bool], tuple[tuple[str, bool, bool], Edge]] = {}
    queue = deque([begun])
    while queue:
        state = queue.popleft()
        node, first_rw, last_rw = state
        for edge in graph.get(node, ()):
            is_rw = edge.kind == "rw"
            if edge.target not in inside or (apart and is_rw and last_rw):
                continue
            first = is_rw if state == begun else first_rw
            if edge.target == start and not (apart and is_rw and first):
                return [*_path(came, begun, state), edge]
            following = (edge.target, first, is_rw) if apart else (edge.target, False, False)
            if edge.target != start and following not in came:
                came[following] = (state, edge)
                queue.append(following)
    return None


def _path(
    came: Mapping[tuple[str, bool, bool], tuple[tuple[str, bool, bool], Edge]],
    begun: tuple[str, bool, bool],
    state: tuple[str, bool, bool],
) -> list[Edge]:
    edges = []
    while state != begun:
        state, edge = came[state]
        edges.append(edge)
    return edges[::-1]


def anomaly(cycle: Sequence[Edge]) -> str:
    """Name a cycle: G0, G1c, G-single or G2, with "-realtime" when it needs real time."""
    kinds = [edge.kind for edge in cycle]
    reversals = kinds.count("rw")
    name = "G2" if reversals > 1 else "G-single" if reversals else "G1c" if "wr" in kinds else "G0"
    return f"{name}-realtime" if "rt" in kinds else name
