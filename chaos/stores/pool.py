"""One pool for connections of every kind: bounded, fair, and safe against cancellation.

The book-keeping is never awaited: who has what changes in plain functions, between which no other task runs. What
takes time (making, checking, cleaning and closing a connection) is done in tasks of the pool's own, so that no
cancelled user can leave it half done. A user awaits only a future; one that is cancelled in the moment when a
connection was already promised to it gives it back.

Users are served in the order in which they came. Those who ask for a reserved connection have a queue of their own,
which goes first, and a share that the others cannot take; the others wait for each other only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic

from chaos.errors import StoreUnavailable
from chaos.stores.background import Background
from chaos.stores.pool_model import Item, Lease, Place, PoolExhausted, PoolReport, PoolSettings, PoolStats, order

_TICKS_PER_TIMEOUT = 4
_TICK_S_MIN = 0.05


@dataclass(frozen=True)
class Trade(Generic[Item]):
    """What a pool must know about its connections.

    make returns a new one, and close ends one for good; an error of close is dropped. check asks one whether it is
    well, by a round trip. clean makes one fit again after its user was cancelled, and tells whether that worked.
    sound is the same question without asking anybody: a closed socket, unread bytes, a process that is gone.
    An error of make reaches the user as it is; one of check and clean means no.
    """

    make: Callable[[], Awaitable[Item]]
    close: Callable[[Item], Awaitable[None]]
    check: Callable[[Item], Awaitable[bool]]
    clean: Callable[[Item], Awaitable[bool]]
    sound: Callable[[Item], bool] = lambda _: True


@dataclass(eq=False)
class _Waiter(Generic[Item]):
    future: asyncio.Future[Lease[Item]]
    reserved: bool
    since_s: float


class Pool(Generic[Item]):
    """Lends connections. Belongs to one event loop; may be opened again after it was closed."""

    def __init__(
        self, name: str, settings: PoolSettings, trade: Trade[Item], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is made yet. name: store and purpose, for messages and metrics ("sqlite.readers")."""
        self.name = name
        self.settings = settings
        self.stats = PoolStats()
        self._store = name.partition(".")[0]
        self._trade = trade
        self._clock = clock
        self._order = order(settings.policy)
        self._number = 0
        self._idle: list[Place[Item]] = []
        self._leases: set[Lease[Item]] = set()
        self._moving: set[Place[Item]] = set()
        self._making_count = 0
        self._checking_count = 0
        self._waiters: dict[bool, deque[_Waiter[Item]]] = {True: deque(), False: deque()}
        self._waiting = {True: 0, False: 0}  # a queue may hold some who have gone, so they are counted
        self._common_count = 0
        self._background = Background()
        self._ticker: asyncio.TimerHandle | None = None
        self._open = False
        self._opening = 0

    async def open(self) -> None:
        """Make `min_size` connections. Raises what making one raised; then everything is closed again."""
        self._open = True
        self._opening += 1
        try:
            while self._open and self._size < self.settings.min_size:
                await self._background.follow(self._make(self._opening))
        except BaseException:
            await self.close()
            raise
        self._schedule_tick()

    def start(self) -> None:
        """Open without making anything; connections come when they are asked for, and `min_size` by and by."""
        self._open = True
        self._opening += 1
        self._schedule_tick()

    @property
    def is_new(self) -> bool:
        """Whether it was neither opened nor closed so far."""
        return not self._opening

    async def acquire(self, *, reserved: bool = False, timeout_s: float | None = None) -> Lease[Item]:
        """Return a connection that nobody else has; give it back with `release`, or use `lend`.

        Raises PoolExhausted after `timeout_s` (the pool's acquire timeout when None), StoreUnavailable when the pool
        is closed, and the error of making a connection. Cancellation: safe; nothing is lent then.
        """
        if not self._open:
            raise StoreUnavailable(self._store, f"{self.name}: the pool is closed")
        loop = asyncio.get_running_loop()
        waiter: _Waiter[Item] = _Waiter(loop.create_future(), reserved, self._clock())
        self._waiters[reserved].append(waiter)
        self._waiting[reserved] += 1
        self._serve()
        if waiter.future.done():
            return waiter.future.result()
        patience_s = self.settings.acquire_timeout_s if timeout_s is None else timeout_s
        timer = loop.call_later(patience_s, self._give_up, waiter, patience_s)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._forsake(waiter)
            raise
        finally:
            timer.cancel()
            self.stats.waited(self._clock() - waiter.since_s)

    def release(self, lease: Lease[Item], *, dirty: bool = False, broken: bool = False) -> None:
        """Give a connection back. dirty: its user was cancelled, so it is cleaned first; broken: it is closed.

        Never waits. A lease that is not held any more is left alone.
        """
        if not lease.held:
            return
        lease.held = False
        self._leases.discard(lease)
        self._common_count -= not lease.reserved
        place = lease.place
        if broken or not self._trade.sound(place.item):
            self._retire(place)
        elif dirty:
            self._move(place, self._cleaned(place))
        elif self._expired(place):
            self._retire(place)
        else:
            self._rest(place)
        self._serve()

    @asynccontextmanager
    async def lend(self, *, reserved: bool = False, timeout_s: float | None = None) -> AsyncIterator[Lease[Item]]:
        """Lend a connection for a block. A cancellation inside has it cleaned before anybody else gets it.

        Other exceptions do not make it unfit; call `release(lease, broken=True)` inside when they do.
        """
        lease = await self.acquire(reserved=reserved, timeout_s=timeout_s)
        try:
            yield lease
        except (asyncio.CancelledError, GeneratorExit):
            self.release(lease, dirty=True)
            raise
        finally:
            self.release(lease)

    async def close(self) -> None:
        """Close all connections, those in use too, and refuse those who wait. Idempotent; waits to the end."""
        self._open = False
        self._opening += 1
        if self._ticker is not None:
            self._ticker.cancel()
        for waiter in (*self._waiters[True], *self._waiters[False]):
            self._refuse(waiter, StoreUnavailable(self._store, f"{self.name}: closed while waiting"))
        for lease in self._leases:
            lease.held = False
        places = [*self._idle, *(lease.place for lease in self._leases)]
        self._idle, self._leases, self._common_count = [], set(), 0
        for place in places:
            self._retire(place)
        await self._background.wait_idle()

    async def wait_settled(self) -> None:
        """Wait until no connection is being made, checked, cleaned or closed. Safe to cancel."""
        await self._background.wait_idle()

    def report(self) -> PoolReport:
        """Return the state of this moment, with a copy of the counts."""
        waiting = sum(self._waiting.values())
        moving = len(self._moving) + self._making_count
        in_use, idle = len(self._leases), len(self._idle)
        return PoolReport(self.name, in_use + idle, in_use, idle, moving, waiting, PoolStats(**vars(self.stats)))

    def tick(self) -> None:
        """Reap idle connections, replace those past their lifetime, keep `min_size`. Runs by itself while open."""
        now = self._clock()
        for place in list(self._idle):
            spare = self._size > self.settings.min_size
            too_long = spare and now - place.idle_since_s >= self.settings.idle_timeout_s
            if too_long or self._expired(place) or not self._trade.sound(place.item):
                self._idle.remove(place)
                self._retire(place)
        self._serve()
        if self._open and self._size < self.settings.min_size:
            self._grow(self.settings.min_size - self._size)

    @property
    def _size(self) -> int:
        return len(self._idle) + len(self._leases) + len(self._moving) + self._making_count

    def _serve(self) -> None:
        """Give idle connections to those who wait, in order; have more made when there is somebody left."""
        while self._open and (waiter := self._next_waiter()) is not None:
            place = self._pick()
            if place is None:
                break
            self._waiting[waiter.reserved] -= 1
            waiter.future.set_result(self._lease(place, reserved=waiter.reserved))
        wanted = self._wanted() - self._making_count - self._checking_count
        if self._open and wanted > 0:
            self._grow(wanted)

    def _next_waiter(self) -> _Waiter[Item] | None:
        """Return the first who may be served now, leaving out those who have gone."""
        for reserved in (True, False):
            queue = self._waiters[reserved]
            while queue and queue[0].future.done():
                queue.popleft()
            if queue and (reserved or self._common_share() > 0):
                return queue[0]
        return None

    def _common_share(self) -> int:
        """Return how many more connections those without a reservation may have."""
        return self.settings.max_size - self.settings.reserved - self._common_count

    def _wanted(self) -> int:
        """Return how many of those who wait might be served if there were connections enough."""
        return self._waiting[True] + min(self._waiting[False], max(0, self._common_share()))

    def _pick(self) -> Place[Item] | None:
        """Return an idle connection that is fit to be lent. Those that are not are closed, or checked first."""
        while self._idle:
            place = self._idle.pop(self._order(self._idle))
            if self._expired(place) or not self._trade.sound(place.item):
                self._retire(place)
            elif self._clock() - place.idle_since_s >= self.settings.check_after_s:
                self._checking_count += 1
                self._move(place, self._checked(place))
                if self._checking_count >= self._wanted():
                    return None
            else:
                return place
        return None

    def _lease(self, place: Place[Item], *, reserved: bool) -> Lease[Item]:
        lease = Lease(place, reserved)
        self._leases.add(lease)
        self._common_count += not reserved
        self.stats.lent += 1
        self.stats.reused += place.use_count > 0
        place.use_count += 1
        self.stats.peak_in_use = max(self.stats.peak_in_use, len(self._leases))
        return lease

    def _grow(self, wanted: int) -> None:
        room = self.settings.max_size - self._size
        for _ in range(min(wanted, room, self.settings.growth - self._making_count)):
            self._making_count += 1
            self._background.start(self._make_for_waiter(self._opening))

    async def _make_for_waiter(self, opening: int) -> None:
        """Make a connection; an error is the answer to the one who waits longest."""
        self._making_count -= 1  # `_make` counts it again, before anybody else runs
        try:
            await self._make(opening)
        except Exception as error:  # noqa: BLE001  # whatever it is, the one who waits must hear of it
            waiter = self._next_waiter()
            if waiter is not None:
                self._refuse(waiter, error)
            self._serve()

    async def _make(self, opening: int) -> None:
        """Make a connection and put it among the idle ones. Raises what `make` raised."""
        self._making_count += 1
        try:
            item = await self._trade.make()
        except Exception:
            self.stats.errors += 1
            raise
        finally:
            self._making_count -= 1
        self._number += 1
        self.stats.created += 1
        now = self._clock()
        place = Place(item, self._number, now, now)
        if self._open and opening == self._opening:
            self._rest(place)
            self._serve()
        else:
            self._retire(place)

    def _rest(self, place: Place[Item]) -> None:
        place.idle_since_s = self._clock()
        self._idle.append(place)
        self.stats.peak_size = max(self.stats.peak_size, self._size)

    def _expired(self, place: Place[Item]) -> bool:
        return self._clock() - place.born_s >= self.settings.lifetime_s

    def _retire(self, place: Place[Item]) -> None:
        self.stats.discarded += 1
        self._move(place, self._closed(place))

    def _move(self, place: Place[Item], work: Any) -> None:
        """Keep `place` out of everybody's reach while `work` is done on it; what comes after is said there."""
        self._moving.add(place)
        self._background.start(work)

    async def _closed(self, place: Place[Item]) -> None:
        try:
            await self._trade.close(place.item)
        except Exception:  # noqa: BLE001  # nobody can do anything about it
            self.stats.errors += 1
        finally:
            self._moving.discard(place)
            self._serve()

    async def _checked(self, place: Place[Item]) -> None:
        fit = await self._asked(self._trade.check, place)
        self._checking_count -= 1
        self._settle(place, fit=fit)

    async def _cleaned(self, place: Place[Item]) -> None:
        self._settle(place, fit=await self._asked(self._trade.clean, place))

    async def _asked(self, question: Callable[[Item], Awaitable[bool]], place: Place[Item]) -> bool:
        try:
            return await question(place.item)
        except Exception:  # noqa: BLE001  # a connection that cannot even be asked is not well
            return False

    def _settle(self, place: Place[Item], *, fit: bool) -> None:
        """Put a connection that was looked after back, or close it."""
        self._moving.discard(place)
        self.stats.errors += not fit
        if fit and self._open and not self._expired(place):
            self._rest(place)
        else:
            self._retire(place)
        self._serve()

    def _give_up(self, waiter: _Waiter[Item], patience_s: float) -> None:
        if waiter.future.done():
            return
        self.stats.timeouts += 1
        report = self.report()
        text = (
            f"{self.name}: no connection within acquire_timeout={patience_s:g} s: {report.in_use} in use,"
            f" {report.moving} being made or closed, {report.waiting} waiting, max_size={self.settings.max_size};"
            " raise max_size, or hold connections for a shorter time"
        )
        self._refuse(waiter, PoolExhausted(self._store, text))

    def _refuse(self, waiter: _Waiter[Item], error: Exception) -> None:
        if not waiter.future.done():
            self._waiting[waiter.reserved] -= 1
            waiter.future.set_exception(error)

    def _forsake(self, waiter: _Waiter[Item]) -> None:
        """Take back what was promised to a user that is gone, and let the next one have it."""
        future = waiter.future
        if future.cancelled():  # by the same cancellation, before anything was promised
            self._waiting[waiter.reserved] -= 1
            self._serve()
        elif future.exception() is None:
            self.release(future.result())

    def _schedule_tick(self) -> None:
        shortest_s = min(self.settings.idle_timeout_s, self.settings.lifetime_s)
        delay_s = max(_TICK_S_MIN, shortest_s / _TICKS_PER_TIMEOUT)
        loop = asyncio.get_running_loop()

        def tick() -> None:
            self.tick()
            self._ticker = loop.call_later(delay_s, tick)

        if self._ticker is not None:
            self._ticker.cancel()
        if self._open:
            self._ticker = loop.call_later(delay_s, tick)
