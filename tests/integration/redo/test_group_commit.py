"""What a batch of commits shares, and what it does not: a poisoned transaction sinks nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from chaos.errors import TransactionAborted
from chaos.transactions.leader import BATCH_MAX
from chaos.transactions.system import Committed

from .conftest import Place, both_arms, converged, faults, until

pytestmark = pytest.mark.requires("redis")

INSERT = "INSERT INTO transfers VALUES (?, 0, 0, 0, '')"


class Gate:
    """Holds the leader with its first batch, so that everything that comes meanwhile is the second one."""

    def __init__(self) -> None:
        self.begun, self.opened = asyncio.Event(), asyncio.Event()

    async def hook(self, name: str, token: str | None, store: str | None) -> None:
        """Stop once, at the first batch's beginning."""
        if name == "sqlite.begun" and not self.opened.is_set():
            self.begun.set()
            await self.opened.wait()


async def gathered(system: Any, gate: Gate, tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """Open the gate when all `tasks` are queued; return what became of them."""

    async def queued() -> bool:
        return len(system._coordinator._leader._queue) == len(tasks)

    await until(queued)
    gate.opened.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def blocked(place: Place) -> tuple[Any, Gate, asyncio.Task[Any]]:
    """Open a system whose leader stands at the beginning of a batch of one."""
    await place.set_up()
    gate = Gate()
    system = await place.open(hook=gate.hook)
    first = asyncio.create_task(system.transact(place.request("first")))
    await asyncio.wait_for(gate.begun.wait(), 5)
    return system, gate, first


async def run(system: Any, token: str, body: Callable[[Any], None]) -> int:
    """Run one transaction; return its number."""
    async with system._coordinator.transaction(deadline_s=10, token=token) as txn:
        body(txn)
    assert txn.csn is not None
    return int(txn.csn)


@both_arms
async def test_whatever_waits_shares_one_commit(place: Place) -> None:
    """Transactions that come during a commit go together with the next one, up to the bound."""
    system, gate, first = await blocked(place)
    count = BATCH_MAX + 3
    tasks = [
        asyncio.create_task(run(system, f"t{n}", lambda txn: txn.sqlite.execute(INSERT, (txn.token,))))
        for n in range(count)
    ]
    assert sorted(await gathered(system, gate, tasks)) == list(range(2, count + 2))
    assert system._coordinator.sqlite_commits == 3
    assert isinstance(await first, Committed)
    assert len(await system._stores.sqlite.fetch("SELECT token FROM transfers")) == count + 1


@both_arms
@pytest.mark.parametrize("engine", ["kuzu"], indirect=True)
@pytest.mark.parametrize(
    "poison",
    [
        "UPDATE accounts SET balance = -1 WHERE id = 0",
        "INSERT OR ROLLBACK INTO accounts VALUES (0, 0)",
        "INSERT INTO accounts VALUES (9, 1), (0, 1)",
    ],
)
async def test_a_poisoned_transaction_is_aborted_alone(place: Place, poison: str) -> None:
    """What one transaction's rows break is undone for it only, even when SQLite rolls the whole batch back."""
    system, gate, first = await blocked(place)

    def good(txn: Any) -> None:
        txn.sqlite.execute(INSERT, (txn.token,))

    def bad(txn: Any) -> None:
        txn.sqlite.execute(INSERT, (txn.token,))
        txn.sqlite.execute(poison)

    bodies = {"a": good, "bad": bad, "b": good}
    tasks = []
    for token, body in bodies.items():
        tasks.append(asyncio.create_task(run(system, token, body)))
        await asyncio.sleep(0)
    found = dict(zip(bodies, await gathered(system, gate, tasks), strict=True))
    assert isinstance(found["bad"], TransactionAborted)
    assert isinstance(await first, Committed)
    assert {found["a"], found["b"]} == {2, 3}
    rows = await system._stores.sqlite.fetch("SELECT token FROM transfers")
    assert sorted(token for (token,) in rows) == ["a", "b", "first"]


@both_arms
async def test_the_same_token_twice_in_a_batch_commits_once(place: Place) -> None:
    """Both callers are told the same number."""
    system, gate, _ = await blocked(place)
    tasks = [asyncio.create_task(system.transact(place.request("t0"))) for _ in range(2)]
    outcomes = await gathered(system, gate, tasks)
    assert [outcome.csn for outcome in outcomes] == [2, 2]
    assert faults(await converged(system), [place.request("t0"), place.request("first")], {}) == []


async def test_one_that_gives_up_in_the_batch_does_not_hold_the_others(place: Place) -> None:
    """A transaction cancelled between the batch's rows and its COMMIT is taken out, and certainly absent."""
    tasks: dict[str, asyncio.Task[Any]] = {}
    gate = Gate()

    async def hook(name: str, token: str | None, store: str | None) -> None:
        await gate.hook(name, token, store)
        if (name, token) == ("sqlite.committing", "b"):
            tasks["a"].cancel()
            await asyncio.wait({tasks["a"]})

    await place.set_up()
    system = await place.open(hook=hook)
    tasks["first"] = asyncio.create_task(system.transact(place.request("first")))
    await asyncio.wait_for(gate.begun.wait(), 5)
    for token in ("a", "b", "c"):
        body = run(system, token, lambda txn: txn.sqlite.execute(INSERT, (txn.token,)))
        tasks[token] = asyncio.create_task(body)
    await gathered(system, gate, [tasks[token] for token in ("a", "b", "c")])
    assert await system.recover(["a", "b", "c"]) == {"a": "aborted", "b": "committed", "c": "committed"}
    rows = await system._stores.sqlite.fetch("SELECT token FROM transfers")
    assert sorted(token for (token,) in rows) == ["b", "c", "first"]


async def test_what_the_graph_refuses_for_good_is_told_and_the_rest_is_applied(place: Place) -> None:
    """A statement that the engine never takes is given up after a few attempts, alone, and read back as refused."""
    system, gate, first = await blocked(place)
    requests = [place.request(f"t{n}") for n in range(4)]
    bad = asyncio.create_task(
        run(system, "bad", lambda txn: txn.graph.execute("CREATE (:Nowhere {id: $id})", {"id": 1}))
    )
    tasks = [asyncio.create_task(system.transact(request)) for request in requests]
    outcomes = await gathered(system, gate, [bad, *tasks])
    assert outcomes[0] == 2
    await system._coordinator._caught_up(6)
    images = await converged(system)
    assert list(images["graph"].refused) == ["bad"]
    assert "Nowhere" in images["graph"].refused["bad"][0]
    told = {request.token: outcome for request, outcome in zip(requests, outcomes[1:], strict=True)}
    assert faults(images, [*requests, place.request("first")], {**told, "first": await first}) == []
    await system.close()
    assert list((await converged(await place.open()))["graph"].refused) == ["bad"]
