from __future__ import annotations

import asyncio
import time

import pytest

from chaos.errors import StoreInDoubt, StoreUnavailable
from chaos.stores import policies


async def test_a_policy_with_a_deadline_raises_the_last_error() -> None:
    """Opening is given up at the deadline, with the store's own error."""

    async def open_locked() -> None:
        async for attempt in policies.sqlite_open(0.1):
            with attempt:
                raise StoreUnavailable("sqlite", "locked")

    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="locked"):
        await open_locked()
    assert time.monotonic() - began < 2


async def test_appliers_try_again_after_every_kind_of_store_error() -> None:
    """Neither a refusal nor a lost reply ends the effort; the third attempt counts."""
    errors = [StoreUnavailable("redis", "refused"), StoreInDoubt("redis", "lost")]
    attempts = 0
    async for attempt in policies.apply_forever():
        with attempt:
            attempts += 1
            if errors:
                raise errors.pop()
    assert attempts == 3


async def test_other_errors_are_not_retried() -> None:
    """A mistake in the program is raised at once."""
    attempts = 0

    async def mistaken() -> None:
        nonlocal attempts
        async for attempt in policies.apply_forever():
            with attempt:
                attempts += 1
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await mistaken()
    assert attempts == 1


async def test_an_endless_policy_ends_by_cancellation() -> None:
    """A task inside an endless policy stops promptly when cancelled."""

    async def forever() -> None:
        async for attempt in policies.graph_restart():
            with attempt:
                raise StoreUnavailable("graph", "locked")

    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=2)
    assert done == {task}
    assert task.cancelled()


def test_back_off_starts_small_and_is_bounded() -> None:
    """The first pause is 10 ms and none is longer than 250 ms, without chance in it."""
    wait = policies.apply_forever().wait
    pauses = [wait(_state(number)) for number in range(1, 12)]
    assert pauses[0] == pytest.approx(0.01)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(0.25)


def _state(number: int) -> object:
    from tenacity import AsyncRetrying, RetryCallState

    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = number
    return state
