from __future__ import annotations

import asyncio

import pytest

from chaos.errors import StoreError
from chaos.transactions.naive import NaiveSystem
from chaos.transactions.system import Aborted, Committed, Outcome

from .conftest import Place, faults

pytestmark = pytest.mark.requires("redis")


async def test_without_faults_the_control_is_right(place: Place) -> None:
    """The naive coordinator leaves equal stores when nothing fails: only faults tell it from the right one."""
    await place.set_up(NaiveSystem)
    system = await place.open(NaiveSystem)
    requests = [place.request(f"t{n}") for n in range(12)]
    outcomes = await asyncio.gather(*(system.transact(request) for request in requests))
    assert {type(outcome) for outcome in outcomes} == {Committed}
    assert (
        faults(await system.read_back(), requests, {r.token: o for r, o in zip(requests, outcomes, strict=True)}) == []
    )


async def test_redis_killed_between_two_commits_tears_it(place: Place) -> None:
    """With Redis gone half-way, the control cannot compensate what Redis has, and calls the rest aborted."""
    await place.set_up(NaiveSystem)

    async def hook(name: str, token: str | None, store: str | None) -> None:
        if name == "graph.applying" and place.server.child is not None:
            await place.server.child.kill()
            raise StoreError("graph", "planted")

    system = await place.open(NaiveSystem, hook=hook)
    request = place.request("t0")
    outcome: Outcome = await system.transact(request)
    await place.server.start()
    assert isinstance(outcome, Aborted)
    found = faults(await system.read_back(), [request], {"t0": outcome})
    assert any("torn" in text for text in found)
    assert any("was aborted, and is in" in text for text in found)
