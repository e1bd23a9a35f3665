"""The model that answers are compared with, and what the two workloads of queries say of wrong parameters."""

from __future__ import annotations

from random import Random

import pytest

from chaos.workload import Cached, Queries
from chaos.workload.queries import PATTERNS
from chaos.workload.query_model import QueryModel, told


def test_answers_do_not_depend_on_the_order_of_rows_nor_on_the_kind_of_number() -> None:
    """Stores give rows in any order, and one engine gives sums as decimals."""
    assert told([(1, "a"), (0, None)]) == told([[0, None], [1.0, "a"]])


@pytest.mark.parametrize("rows", [[], [(1, "a")], [(1, "a"), (2, "b"), (2, "b")], [(1, "a"), (2, "c")]])
def test_any_difference_of_rows_is_a_difference_of_answers(rows: list[tuple[int, str]]) -> None:
    """A row less, one too many, a doubled one, another value."""
    assert told(rows) != told([(1, "a"), (2, "b")])


def test_long_answers_differ_by_their_digest() -> None:
    """The text is cut and stays different."""
    one, other = told([(n,) for n in range(500)]), told([(n,) for n in range(499)])
    assert one != other
    assert len(one) < 200


def test_the_model_follows_the_writes() -> None:
    """By hand: what each writing pattern adds is what the reading ones are told afterwards."""
    model = QueryModel(people=4, batch=3)
    assert model.answer("graph.join:0") == told([(1, 3, "")])  # 0 follows 1, and 2 * 0 + 1, the same
    model.apply("t1", "graph.create:0:2")
    assert model.answer("graph.join:0") == told([(1, 3, ""), (2, 1, "t1")])
    assert model.answer("graph.create:0:1") == told([(2,)])
    assert model.answer("graph.path:0:1") == told([(1,), (2,)])
    assert model.answer("graph.path:0:3") == told([(0,), (1,), (2,), (3,)])
    assert model.answer("graph.aggregate:0") == told([(0, 2), (3, 2), (1, 2), (4, 1)])  # nobody follows himself
    model.apply("t2", "sqlite.bulk:3")
    assert model.answer("sqlite.select:0") == told([(1, ""), (2, "t2")])
    assert model.answer("sqlite.bulk:3") == told([(2,)])
    assert model.answer("sqlite.aggregate:0") == told([(0, 2, 3), (3, 2, 5), (1, 1, 3), (4, 2, 5)])
    model.apply("t3", "redis.pipeline:2")
    model.apply("t4", "redis.set:3")
    assert model.answer("redis.pipeline:2") == told([(2, "t3"), (3, "t4"), (0, "t3")])
    model.apply("t5", "redis.hash:1")
    assert model.answer("redis.hash:1") == told([("city", "3"), ("count", "1"), ("last", "t5")])


def test_every_pattern_is_drawn_and_has_a_model() -> None:
    """No pattern is left out, and each can be answered."""
    workload, rng = Queries(keys=5), Random(1)
    marks = [workload.draw(rng, "t", 0, 0)["mark"] for _ in range(500)]
    assert {mark.partition(":")[0] for mark in marks} == set(PATTERNS)
    assert all(QueryModel(5, 10).answer(mark) for mark in marks)


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (Queries(patterns=()), "patterns=()"),
        (Queries(patterns=("graph.circle",)), "graph.circle"),
        (Queries(patterns="graph.path"), "patterns='graph.path'"),  # type: ignore[arg-type]  # wrong on purpose
        (Queries(hops=4), "hops=4"),
        (Queries(batch=0), "batch=0"),
        (Cached(writes=1.5), "writes=1.5"),
        (Cached(on_write="later"), "on_write='later'"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_wrong_parameters_are_told(workload: Queries | Cached, words: str) -> None:
    """One problem each, with the value."""
    [problem] = workload.problems()
    assert words in problem.text
