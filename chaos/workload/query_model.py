"""What the queries of `chaos.workload.queries` must be answered, computed without any store.

The model holds the same data as the stores in plain lists. It knows nothing of SQL, Cypher or Redis, so that a mistake
in a store, or in what a coordinator lets a transaction see, is not made here as well.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

CITIES = 5
_TOLD_MAX = 120


def city_of(person: int) -> int:
    """Return where somebody lives, from 0 to CITIES - 1; nobody ever moves."""
    return person * 3 % CITIES


def first_edges(people: int) -> list[tuple[int, int]]:
    """Return who follows whom at the beginning: the next one, and one further away."""
    pairs = [(person, target % people) for person in range(people) for target in (person + 1, 2 * person + 1)]
    return [(source, target) for source, target in dict.fromkeys(pairs) if source != target]


def first_amount(person: int) -> int:
    """Return the amount of the one order that everybody has at the beginning."""
    return person % 7 + 1


def batch_of(person: int, people: int, size: int) -> list[tuple[int, int]]:
    """Return the orders that a bulk insert adds: person and amount, beginning with `person`."""
    return [((person + number) % people, number % 7 + 1) for number in range(size)]


def keys_of(person: int, people: int, size: int) -> list[int]:
    """Return whose values a pipeline reads and writes: `size` people beginning with `person`, or all there are."""
    return [(person + number) % people for number in range(min(size, people))]


def told(rows: Iterable[Sequence[Any]]) -> str:
    """Return an answer as text that is equal for equal rows in any order; long ones end in a digest of all."""
    text = json.dumps(sorted(([_plain(value) for value in row] for row in rows), key=repr), separators=(",", ":"))
    if len(text) <= _TOLD_MAX:
        return text
    return f"{text[:_TOLD_MAX]}... {blake2b(text.encode(), digest_size=8).hexdigest()}"


def _plain(value: Any) -> Any:
    """Return a sum as the whole number it is: one engine gives decimals."""
    return value if value is None or isinstance(value, str) else int(value)


class QueryModel:
    """The data after some transactions, in the order of their commits. batch: see `chaos.workload.queries.Queries`."""

    def __init__(self, people: int, batch: int) -> None:
        """Begin with the first rows."""
        self._people = people
        self._batch = batch
        self.orders = [(person, first_amount(person), "") for person in range(people)]
        self.edges = [(source, target, "") for source, target in first_edges(people)]
        self.values = dict.fromkeys(range(people), "")
        self.profiles: dict[int, dict[str, str]] = {n: {"city": str(city_of(n)), "count": "0"} for n in range(people)}

    def answer(self, mark: str) -> str:
        """Return what the query that `mark` tells ("graph.path:3:2") must be answered now."""
        pattern, person, *rest = mark.split(":")
        name = pattern.replace(".", "_")
        return told(getattr(self, f"_{name}")(int(person), *map(int, rest)))

    def apply(self, token: str, mark: str) -> None:
        """Let the transaction of `mark` write, if its pattern writes."""
        pattern, key, *rest = mark.split(":")
        person = int(key)
        match pattern:
            case "graph.create":
                self.edges.append((person, int(rest[0]), token))
            case "sqlite.bulk":
                self.orders += [(one, amount, token) for one, amount in batch_of(person, self._people, self._batch)]
            case "redis.set":
                self.values[person] = token
            case "redis.pipeline":
                self.values |= dict.fromkeys(keys_of(person, self._people, self._batch), token)
            case "redis.hash":
                profile = self.profiles[person]
                self.profiles[person] = {**profile, "count": str(int(profile["count"]) + 1), "last": token}

    def _graph_simple(self, person: int) -> list[tuple[Any, ...]]:
        return [(city_of(person),)]

    def _graph_join(self, person: int) -> list[tuple[Any, ...]]:
        return [(target, city_of(target), token) for source, target, token in self.edges if source == person]

    def _graph_path(self, person: int, hops: int) -> list[tuple[Any, ...]]:
        follows: defaultdict[int, set[int]] = defaultdict(set)
        for source, target, _ in self.edges:
            follows[source].add(target)
        reached: set[int] = set()
        here = {person}
        for _ in range(hops):
            here = {target for source in here for target in follows[source]}
            reached |= here
        return [(one,) for one in reached]

    def _graph_aggregate(self, _: int) -> list[tuple[Any, ...]]:
        counts: defaultdict[int, int] = defaultdict(int)
        for source, _target, _token in self.edges:
            counts[city_of(source)] += 1
        return list(counts.items())

    def _graph_create(self, person: int, _: int) -> list[tuple[Any, ...]]:
        return [(len(self._graph_join(person)),)]

    def _sqlite_select(self, person: int) -> list[tuple[Any, ...]]:
        return [(amount, token) for one, amount, token in self.orders if one == person]

    def _sqlite_join(self, person: int) -> list[tuple[Any, ...]]:
        return [(city_of(person), amount, token) for amount, token in self._sqlite_select(person)]

    def _sqlite_aggregate(self, _: int) -> list[tuple[Any, ...]]:
        amounts: defaultdict[int, list[int]] = defaultdict(list)
        for person, amount, _token in self.orders:
            amounts[city_of(person)].append(amount)
        return [(city, len(found), sum(found)) for city, found in amounts.items()]

    def _sqlite_bulk(self, person: int) -> list[tuple[Any, ...]]:
        return [(len(self._sqlite_select(person)),)]

    def _redis_get(self, person: int) -> list[tuple[Any, ...]]:
        return [(self.values[person],)]

    _redis_set = _redis_get

    def _redis_pipeline(self, person: int) -> list[tuple[Any, ...]]:
        return [(key, self.values[key]) for key in keys_of(person, self._people, self._batch)]

    def _redis_hash(self, person: int) -> list[tuple[Any, ...]]:
        return list(self.profiles[person].items())
