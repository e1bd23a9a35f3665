"""What `recover` says while transactions are still under way, and when an applier has died."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chaos.transactions.applier import ApplierDied
from chaos.transactions.redo import RedoSystem
from chaos.transactions.rows import RedoRow
from chaos.transactions.secondaries import RedisSecondary
from chaos.transactions.system import Aborted, Committed, InDoubt

from .conftest import Place, both_arms, converged, until

pytestmark = [pytest.mark.requires("redis"), pytest.mark.parametrize("engine", ["kuzu"], indirect=True)]


class Gates:
    """Holds transactions at phases until their gate is opened; `reached` counts who came."""

    def __init__(self, phase: str, count: int = 1) -> None:
        self.phase = phase
        self.gates = [asyncio.Event() for _ in range(count)]
        self.reached = 0

    async def hook(self, name: str, token: str | None, store: str | None) -> None:
        """Wait at the next gate when this is the phase."""
        if name == self.phase and self.reached < len(self.gates):
            self.reached += 1
            await self.gates[self.reached - 1].wait()

    async def came(self, count: int) -> None:
        """Wait until so many have come."""

        async def enough() -> bool:
            return self.reached >= count

        await until(enough)


@both_arms
@pytest.mark.parametrize("phase", ["begin", "buffered", "queued", "sqlite.begun", "sqlite.committing"])
async def test_a_token_under_way_is_not_resolved(place: Place, phase: str) -> None:
    """Asked about a transaction at any phase before its commit, `recover` leaves it out until it has ended."""
    await place.set_up()
    gates = Gates(phase)
    system = await place.open(hook=gates.hook)
    task = asyncio.create_task(system.transact(place.request("t0")))
    await gates.came(1)
    assert await system._coordinator.recover(["t0"], limit_s=0.05) == {}
    asked = asyncio.create_task(system.recover(["t0"]))
    gates.gates[0].set()
    assert await asked == {"t0": "committed"}
    assert isinstance(await task, Committed)


@both_arms
async def test_a_recover_asked_right_after_its_transaction_sees_it(place: Place) -> None:
    """Requests are started in order, so a transaction counts as under way before its first await."""
    await place.set_up()
    system = await place.open()
    transacting = asyncio.create_task(system.transact(place.request("t0")))
    asked = asyncio.create_task(system.recover(["t0"]))
    assert await asked == {"t0": "committed"}
    assert isinstance(await transacting, Committed)


@both_arms
async def test_two_attempts_with_a_token_are_both_waited_for(place: Place) -> None:
    """The end of one attempt does not hide another one with the same token."""
    await place.set_up()
    gates = Gates("queued", 2)
    system = await place.open(hook=gates.hook)
    first = asyncio.create_task(system.transact(place.request("t0", deadline_s=0.3)))
    await gates.came(1)
    second = asyncio.create_task(system.transact(place.request("t0")))
    await gates.came(2)
    assert isinstance(await first, Aborted)
    assert await system._coordinator.recover(["t0"], limit_s=0.05) == {}
    gates.gates[1].set()
    assert isinstance(await second, Committed)
    assert await system.recover(["t0"]) == {"t0": "committed"}


@both_arms
async def test_a_token_called_aborted_is_refused_afterwards(place: Place) -> None:
    """What `recover` has called aborted never commits in this process, however late its request comes."""
    await place.set_up()
    system = await place.open()
    assert await system.recover(["late"]) == {"late": "aborted"}
    outcome = await system.transact(place.request("late"))
    assert isinstance(outcome, Aborted)
    assert "called it aborted" in outcome.reason
    assert isinstance(await system.transact(place.request("other")), Committed)
    assert set((await converged(system))["sqlite"].marks) == {"other"}


@both_arms
async def test_an_attempt_during_the_look_up_is_in_doubt(place: Place) -> None:
    """While a token is looked up, a new attempt with it is neither run nor called aborted."""
    await place.set_up()
    system = await place.open()
    for token in ("before", "t0"):  # the first one asks the log when a base is due, on a connection that is lent below
        assert isinstance(await system.transact(place.request(token)), Committed)
    readers = system._stores.sqlite._readers
    lent = [await readers.acquire() for _ in range(2)]  # the look-up waits for a connection
    asked = asyncio.create_task(system.recover(["t0"]))

    async def looking_up() -> bool:
        return bool(system._coordinator._tokens._questions)

    await until(looking_up)
    assert isinstance(await system.transact(place.request("t0")), InDoubt)
    for lease in lent:
        readers.release(lease)
    assert await asked == {"t0": "committed"}
    assert isinstance(await system.transact(place.request("t0")), Committed)


class _Dies(RedisSecondary):
    """Fails in a way that no store does."""

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Fail at once."""
        raise RuntimeError("planted")


class _WithADyingApplier(RedoSystem):
    redis_secondary: Any = _Dies


async def test_the_death_of_an_applier_is_told(place: Place) -> None:
    """After an unforeseen error in an applier nobody waits for it, new work is refused, and `recover` raises."""
    await place.set_up()
    system = await place.open(_WithADyingApplier)
    async with asyncio.timeout(10):
        assert await system.transact(place.request("t0", deadline_s=30.0)) == Committed(csn=1, applied=False)
    outcome = await system.transact(place.request("t1"))
    assert isinstance(outcome, Aborted)
    assert "planted" in outcome.reason
    with pytest.raises(ApplierDied, match="planted"):
        await system.recover([])
