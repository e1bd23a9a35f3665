from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from chaos.history.model import StoreImage
from chaos.workload import Transfers, load
from chaos.workload.base import WorkRefused


class Paper:
    """A unit of work on paper: answers reads from what it is given and notes writes."""

    def __init__(self, balance: int, limit: str | None) -> None:
        self.token = "t0"
        self.balance = balance
        self.limit = limit
        self.sqlite_writes: list[tuple[str, tuple[Any, ...]]] = []
        self.commands: list[tuple[str | int, ...]] = []
        self.cyphers: list[dict[str, Any]] = []
        self.gets: list[str] = []
        self.sqlite = self.redis = self.graph = self

    def execute(self, text: str, parameters: Any = ()) -> None:
        """Note a write."""
        if isinstance(parameters, dict):
            self.cyphers.append(parameters)
        else:
            self.sqlite_writes.append((text, tuple(parameters)))

    async def fetch(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """Answer with the balance."""
        return [(self.balance,)]

    async def query(self, cypher: str, parameters: Any) -> list[list[Any]]:
        """Answer with nothing."""
        return []

    def command(self, name: str, *arguments: str | int) -> None:
        """Note a command."""
        self.commands.append((name, *arguments))

    async def get(self, key: str) -> str | None:
        """Answer with the limit."""
        self.gets.append(key)
        return self.limit


SPEC = {"source": 3, "target": 7, "amount": 5, "mark": "3>7:5", "reads_redis": True}


def test_config_makes_the_same_workload_again() -> None:
    """Through JSON and back, nothing is lost."""
    workload = Transfers(accounts=5, deadline="250ms", reads_redis=False)
    config = json.loads(json.dumps(workload.to_config()))
    again = load({"name": "Transfers", **config})
    assert again.to_config() == config
    assert again.deadline_s == 0.25


def test_draws_repeat_and_stay_within_bounds() -> None:
    """The same stream draws the same transfers: two different accounts, 1 to 10, marked accordingly."""
    workload = Transfers(accounts=4)
    one, two = ([workload.draw(rng, f"t{n}", 0, n) for n in range(200)] for rng in (Random(7), Random(7)))
    assert one == two
    assert {spec["source"] for spec in one} == {spec["target"] for spec in one} == {0, 1, 2, 3}
    assert all(spec["source"] != spec["target"] and 1 <= spec["amount"] <= 10 for spec in one)
    assert all(spec["mark"] == f"{spec['source']}>{spec['target']}:{spec['amount']}" for spec in one)
    assert 60 < sum(spec["reads_redis"] for spec in one) < 140


def test_reading_redis_can_be_switched_off() -> None:
    """Without it the other draws stay the same."""
    drawn = [Transfers(reads_redis=reads).draw(Random(1), "t", 0, 0) for reads in (True, False)]
    assert drawn[1]["reads_redis"] is False
    assert drawn[0]["mark"] == drawn[1]["mark"]


@pytest.mark.parametrize(
    "change",
    [{"accounts": 1}, {"clients": 0}, {"rate": 0}, {"seconds": 0}, {"deadline": "soon"}, {"initial": -1}],
)
def test_a_bad_parameter_is_one_problem(change: dict[str, Any]) -> None:
    """Each parameter out of its range is told by name."""
    [problem] = Transfers(**change).problems()
    assert next(iter(change)) in problem.text


async def test_a_transfer_writes_to_every_store() -> None:
    """Two balances and a mark in SQLite and Redis, an edge in the graph, after both reads."""
    unit = Paper(balance=100, limit="50")
    await Transfers().perform(unit, SPEC)
    assert unit.gets == ["limits:3"]
    assert [parameters for _, parameters in unit.sqlite_writes] == [(5, 3), (5, 7), ("t0", 3, 7, 5, "3>7:5")]
    assert unit.commands == [
        ("INCRBY", "balance:3", -5),
        ("INCRBY", "balance:7", 5),
        ("RPUSH", "marks", "t0 3>7:5"),
    ]
    assert unit.cyphers == [{"source": 3, "target": 7, "token": "t0", "mark": "3>7:5", "amount": 5}]


@pytest.mark.parametrize(("balance", "limit"), [(4, "50"), (100, "4")])
async def test_a_refused_transfer_writes_nothing(balance: int, limit: str) -> None:
    """Too little money or too low a limit refuses it before anything is buffered."""
    unit = Paper(balance=balance, limit=limit)
    with pytest.raises(WorkRefused):
        await Transfers().perform(unit, SPEC)
    assert (unit.sqlite_writes, unit.commands, unit.cyphers) == ([], [], [])


def test_undo_is_the_opposite() -> None:
    """The compensation moves the same amount back and takes the marks out."""
    writes = Transfers().undo("t0", SPEC)
    assert [parameters for _, parameters in writes.sqlite] == [(5, 3), (5, 7), ("t0",)]
    assert writes.redis[:2] == (("INCRBY", "balance:3", 5), ("INCRBY", "balance:7", -5))
    assert writes.graph[0][1] == {"token": "t0"}


async def test_images_show_duplicates_and_equal_balances() -> None:
    """A mark found twice is there twice, and balances of the graph follow from its edges."""

    class Answers:
        async def execute(self, *arguments: Any) -> Any:
            answers = {"TYPE": "list", "LRANGE": ["t0 0>1:5", "t0 0>1:5"], "MGET": ["90", "110"]}
            return answers[arguments[0]]

        async def query(self, cypher: str, parameters: Any = None, *, timeout_s: float | None = None) -> Any:
            return [[0], [1]] if "SENT" not in cypher else [[0, 1, 5, "t0", "0>1:5"]] * 2

    workload = Transfers(accounts=2)
    expected = StoreImage(marks={"t0": ["0>1:5", "0>1:5"]}, counters={"balance:0": 90, "balance:1": 110})
    assert await workload.image_redis(Answers()) == expected
    assert await workload.image_graph(Answers()) == expected


@pytest.mark.parametrize("value", [None, "much"])
async def test_a_lost_counter_is_reported_as_lost(value: str | None) -> None:
    """An account that is absent in a store, or that holds no number, is there in the image, without a value."""

    class Answers:
        async def execute(self, *arguments: Any) -> Any:
            return "none" if arguments[0] == "TYPE" else [value, "110"]

        async def fetch(self, sql: str, parameters: Any = ()) -> Any:
            return [(1, 110)] if "accounts" in sql else []

        async def query(self, cypher: str, parameters: Any = None, *, timeout_s: float | None = None) -> Any:
            return [[1]] if "SENT" not in cypher else []

    workload = Transfers(accounts=2, initial=110)
    expected = StoreImage(marks={}, counters={"balance:0": None, "balance:1": 110})
    assert await workload.image_redis(Answers()) == expected
    assert await workload.image_sqlite(Answers()) == expected
    assert await workload.image_graph(Answers()) == expected
