"""The pool against a model that knows nothing of its insides: random users, errors, cancellations and times."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chaos.stores.pool import Pool, Trade
from chaos.stores.pool_model import POLICIES, Lease, PoolSettings


class Thing:
    """A connection that knows who has it and what became of it."""

    def __init__(self) -> None:
        self.user: int | None = None
        self.closed = False
        self.sound = True


class World:
    """The making, checking, cleaning and closing of things; each waits until the test lets it end."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self.pending: list[tuple[str, Thing | None, asyncio.Future[bool]]] = []

    async def _gate(self, kind: str, thing: Thing | None) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.pending.append((kind, thing, future))
        return await future

    async def make(self) -> Thing:
        """Make a thing, or fail."""
        if not await self._gate("make", None):
            raise ConnectionRefusedError("planted")
        self.things.append(Thing())
        return self.things[-1]

    async def check(self, thing: Thing) -> bool:
        """Ask a thing that nobody uses."""
        assert thing.user is None
        return await self._gate("check", thing)

    async def close(self, thing: Thing) -> None:
        """Close a thing that nobody uses, once."""
        assert thing.user is None, "closed while in use"
        await self._gate("close", thing)
        assert not thing.closed, "closed twice"
        thing.closed = True

    def trade(self) -> Trade[Thing]:
        """Return what the pool must know."""
        return Trade(
            make=self.make, close=self.close, check=self.check, clean=self.check, sound=lambda thing: thing.sound
        )


class PoolMachine(RuleBasedStateMachine):
    """Every step is followed by the loop's coming to rest, so that a failing sequence repeats exactly."""

    @initialize(
        policy=st.sampled_from(POLICIES),
        max_size=st.integers(1, 4),
        data=st.data(),
    )
    def start(self, policy: str, max_size: int, data: Any) -> None:
        """Open a pool that is empty at first."""
        chosen = PoolSettings(
            max_size=max_size,
            reserved=data.draw(st.integers(0, max_size - 1)),
            growth=data.draw(st.integers(1, 3)),
            policy=policy,
            acquire_timeout_s=3600,
            idle_timeout_s=10,
            lifetime_s=30,
            check_after_s=5,
        )
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        self.world = World()
        self.pool = Pool("test.pool", chosen, self.world.trade(), clock=lambda: self.now)
        self.users: dict[int, asyncio.Task[Lease[Thing]]] = {}
        self.came: dict[bool, list[int]] = {True: [], False: []}
        self.held: dict[int, Lease[Thing]] = {}
        self.number = 0
        self.loop.run_until_complete(self.pool.open())
        assert self.pool._ticker is not None
        self.pool._ticker.cancel()  # time passes only by the rule `wait`

    def settle(self, first: Callable[[], None] = lambda: None) -> None:
        """Do something, let everything that can run do so, then take down who was served, in which order."""

        async def rest() -> None:
            first()
            for _ in range(30):
                await asyncio.sleep(0)

        self.loop.run_until_complete(rest())
        for reserved, queue in self.came.items():
            still = False
            for number in list(queue):
                task = self.users[number]
                if not task.done():
                    still = True
                    continue
                queue.remove(number)
                if task.cancelled() or task.exception():
                    continue
                assert not still, f"user {number} (reserved={reserved}) was served before one who came earlier"
                lease = task.result()
                assert lease.item.user is None, "one connection has two users"
                assert not lease.item.closed
                lease.item.user = number
                self.held[number] = lease

    @rule(reserved=st.booleans())
    def acquire(self, reserved: bool) -> None:
        """A user comes."""
        self.number += 1
        self.users[self.number] = self.loop.create_task(self.pool.acquire(reserved=reserved))
        self.came[reserved].append(self.number)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["clean", "dirty", "broken", "unsound"]))
    def release(self, data: Any, how: str) -> None:
        """A user gives its connection back."""
        number = data.draw(st.sampled_from(sorted(self.held)))
        lease = self.held.pop(number)
        lease.item.user = None
        lease.item.sound = how != "unsound"

        def give_back() -> None:
            self.pool.release(lease, dirty=how == "dirty", broken=how == "broken")
            self.pool.release(lease)  # a second time does nothing

        self.settle(give_back)

    @precondition(lambda self: self.came[True] or self.came[False])
    @rule(data=st.data(), steps=st.integers(0, 3), with_outcome=st.booleans())
    def cancel(self, data: Any, steps: int, with_outcome: bool) -> None:
        """A user who waits is cancelled, perhaps in the very moment when something ends that it waited for."""
        number = data.draw(st.sampled_from(sorted(self.came[True] + self.came[False])))
        if with_outcome and self.world.pending:
            self.world.pending.pop(0)[2].set_result(True)

        async def some() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)
            self.users[number].cancel()

        self.loop.run_until_complete(some())
        self.settle()

    @precondition(lambda self: self.world.pending)
    @rule(data=st.data(), good=st.booleans())
    def finish(self, data: Any, good: bool) -> None:
        """Something that takes time comes to its end, well or not."""
        at = data.draw(st.integers(0, len(self.world.pending) - 1))
        self.world.pending.pop(at)[2].set_result(good)
        self.settle()

    @rule(seconds=st.sampled_from([1, 6, 11, 31]))
    def wait(self, seconds: int) -> None:
        """Time passes, and the pool looks around."""
        self.now += seconds
        self.settle(self.pool.tick)

    @invariant()
    def books_are_right(self) -> None:
        """Sizes add up, bounds hold, no work is possible that is not under way."""
        if not hasattr(self, "pool"):
            return
        report = self.pool.report()
        limits = self.pool.settings
        assert report.in_use == len(self.held)
        assert report.in_use + report.idle == report.size
        assert report.size + report.moving <= limits.max_size
        assert report.waiting == len(self.came[True]) + len(self.came[False])
        common = sum(not lease.reserved for lease in self.held.values())
        assert common <= limits.max_size - limits.reserved
        living = [thing for thing in self.world.things if not thing.closed]
        assert len(living) + sum(kind == "make" for kind, _, _ in self.world.pending) == report.size + report.moving
        servable = self.came[True] or (self.came[False] and common < limits.max_size - limits.reserved)
        if servable:
            assert report.idle == 0
            assert report.moving or report.size == limits.max_size

    def teardown(self) -> None:
        """Closed, the pool leaves nothing. What a failed run leaves is thrown away without a word."""
        if not hasattr(self, "loop"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.close()
        finally:
            while left := asyncio.all_tasks(self.loop):
                for task in left:
                    task.cancel()
                self.loop.run_until_complete(asyncio.wait(left))
            self.loop.close()

    def close(self) -> None:
        """Close the pool with everything as it is; afterwards there is no thing, no user who waits, no task."""
        for lease in self.held.values():
            lease.item.user = None
        closing = self.loop.create_task(self.pool.close())
        for _ in range(1000):
            self.settle()
            for _, _, future in self.world.pending:
                future.set_result(True)
            self.world.pending.clear()
            if closing.done():
                break
        assert closing.done()
        assert all(thing.closed for thing in self.world.things)
        assert all(task.done() for task in self.users.values())
        report = self.pool.report()
        assert (report.size, report.moving, report.waiting) == (0, 0, 0)
        assert not asyncio.all_tasks(self.loop)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


class _Forgetful(Pool[Thing]):
    """A pool with a planted bug: what was promised to a cancelled user is not given back."""

    def _forsake(self, waiter: Any) -> None:
        if waiter.future.cancelled():
            super()._forsake(waiter)


class _Careless(Pool[Thing]):
    """A pool with a planted bug: the reserved share is not kept."""

    def _common_share(self) -> int:
        return self.settings.max_size - self._common_count


class _Unfair(Pool[Thing]):
    """A pool with a planted bug: who came last goes first."""

    def _serve(self) -> None:
        for queue in self._waiters.values():
            queue.reverse()
        super()._serve()


class _Greedy(Pool[Thing]):
    """A pool with a planted bug: connections that are being made or closed do not count."""

    @property
    def _size(self) -> int:
        return len(self._idle) + len(self._leases)


@pytest.mark.parametrize("mutant", [_Forgetful, _Careless, _Unfair, _Greedy], ids=lambda mutant: mutant.__name__)
def test_the_machine_sees_planted_bugs(mutant: type[Pool[Thing]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that is wrong in one way is found out, or the machine would prove nothing."""
    monkeypatch.setattr(sys.modules[__name__], "Pool", mutant)
    found = settings(
        max_examples=300,
        stateful_step_count=40,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(PoolMachine, settings=found)
