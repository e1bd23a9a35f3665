"""Brings one store up to the commit log, batch by batch, for as long as the coordinator is open."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice

from chaos.errors import ChaosError, StoreError
from chaos.stores import policies
from chaos.transactions.commit_log import CommitLog, Fenced
from chaos.transactions.local_site import QuietSite
from chaos.transactions.rows import RedoRow
from chaos.transactions.secondaries import Secondary
from chaos.transactions.system import Site

GATHER_S = 0.01
"""How long rows wait for more of them where commits are acknowledged without being applied."""

_POLL_S = 0.25


class ApplierDied(ChaosError):
    """An applier ended by an error that nobody foresaw; only a new process brings its store up again."""


class Applier:
    """One task. `applied` is the last number that the store is known to have had.

    New rows come in through `offer`, older ones are read from the log. After any error the store is asked
    again where it is, before anything else is sent: that covers lost replies, late duplicates, restarts and
    lost data alike. An idle store is asked every quarter of a second, since it may have lost data unnoticed.
    Where nobody waits for what was committed, rows are let come together: one request for ten costs little more than
    one for one, and would slow the next commits down ten times.
    An error that is no StoreError ends the task, for ever; `died` and `wait_for` tell so. One of them is to find that
    another process leads now: before the store is asked where it is, the log is asked whom it belongs to, so that a
    leader which was paused and goes on lets go of the stores of its successor.
    """

    def __init__(self, secondary: Secondary, log: CommitLog, site: Site, *, gather_s: float = 0.0) -> None:
        """Nothing runs yet; see `start`. gather_s: how long a row for which nobody waits may wait for others."""
        self.name = secondary.name
        self.applied = 0
        self.trouble: StoreError | None = None
        self.secondary = secondary
        self._log = log
        self._site = site
        self._quiet = isinstance(site, QuietSite)
        self._certain = False
        self._ceiling: int | None = None
        self._offered: deque[RedoRow] = deque()
        self._work = asyncio.Event()
        self._gather_s = gather_s
        self._pressing = asyncio.Event()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap, the lowest number first
        self._order = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to follow the log."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _: self._wake_all())

    @property
    def died(self) -> ApplierDied | None:
        """Why nothing is applied any more; None while the task runs, before `start` and after `close`."""
        if self._closing or self._task is None or not self._task.done():
            return None
        cause = None if self._task.cancelled() else self._task.exception()
        died = ApplierDied(f"{self.name}: the applier died: {cause!r}; start a new process")
        died.__cause__ = cause
        return died

    async def close(self) -> None:
        """Stop, in the middle of a request if need be, and let the store be closed in peace. Idempotent."""
        self._closing = True  # a library below may swallow the cancellation
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        with suppress(ChaosError):  # then the next process knows less, and does more
            await self.secondary.close()

    def offer(self, rows: Iterable[RedoRow]) -> None:
        """Hand over rows that have just become durable; they are offered in order."""
        self._offered.extend(rows)
        self._work.set()
        if len(self._offered) >= self.secondary.batch_max:
            self._pressing.set()

    def stop_at(self, csn: int | None) -> None:
        """Apply nothing beyond `csn` from now on; None: no such bound. What is under way is below it already."""
        self._ceiling = csn
        self._work.set()

    def has(self, csn: int) -> bool:
        """Tell whether the store is known to have `csn` just now."""
        return self._certain and self.applied >= csn

    async def wait_for(self, csn: int) -> None:
        """Wait until the store has `csn`. Raises ApplierDied when nothing brings it there. Safe to cancel."""
        while not self.has(csn):
            if self.died is not None:
                raise self.died
            waiter = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (csn, next(self._order), waiter))
            self._pressing.set()
            await waiter

    async def _run(self) -> None:
        while not self._closing:
            with suppress(StoreError):  # `_step` has noted it; to make the policy anew for each step would cost more
                while not self._closing:
                    await self._step()
            async for attempt in policies.apply_forever():
                with attempt:
                    await self._step()

    async def _step(self) -> None:
        try:
            if not await self._advance() and not await self._woken():
                await self._look()
        except Fenced:
            await self.secondary.abandon()
            raise
        except StoreError as error:
            self._certain = False
            self.trouble = error
            raise
        self.trouble = None

    async def _advance(self) -> bool:
        """Apply what comes next; False when there is nothing to apply."""
        if not self._certain:
            await self._ask()
        elif self._gather_s and self._offered:
            await self._gather()
        rows = await self._next()
        if rows:
            await self._apply(rows)
        return bool(rows)

    async def _gather(self) -> None:
        """Let more rows come, unless somebody waits for those that are here, or they are enough."""
        if not self._waiting and len(self._offered) < self.secondary.batch_max:
            self._pressing.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._gather_s):
                    await self._pressing.wait()

    async def _look(self) -> None:
        """Ask an idle store where it is."""
        await self._ask()

    async def _ask(self) -> None:
        await self._log.demand_owner()
        self._note(await self.secondary.applied())

    async def _apply(self, rows: Sequence[RedoRow]) -> None:
        await self._tell("applying", rows)
        if await self.secondary.apply(rows):
            await self._tell("applied", rows)
            self._note(rows[-1].csn)
        else:
            self._certain = False  # the store went back in time: ask it where it is

    async def _tell(self, what: str, rows: Sequence[RedoRow]) -> None:
        if not self._quiet:
            for row in rows:
                await self._site.phase(f"{self.name}.{what}", row.token, self.name)

    def _note(self, applied: int) -> None:
        self._log.raise_floor(applied)
        self.applied = applied
        self._certain = True
        while self._waiting and self._waiting[0][0] <= applied:
            _wake(heapq.heappop(self._waiting)[2])

    def _wake_all(self) -> None:
        """Let everybody in `wait_for` look again."""
        waiting, self._waiting = self._waiting, []
        for _, _, waiter in waiting:
            _wake(waiter)

    async def _next(self) -> list[RedoRow]:
        """Return rows that follow the last applied one, as many as go into one request; none when there are none."""
        self._work.clear()
        while self._offered and self._offered[0].csn <= self.applied:
            self._offered.popleft()
        at_hand = self._offered and self._offered[0].previous <= self.applied
        if not at_hand and self._log.last_csn > self.applied:
            self._offered = deque(await self._log.after(self.applied))
        rows: list[RedoRow] = []
        for row in islice(self._offered, self.secondary.batch_max):
            if (rows and row.previous != rows[-1].csn) or (self._ceiling is not None and row.csn > self._ceiling):
                break
            rows.append(row)
        return rows

    async def _woken(self) -> bool:
        """Wait for work; False when it is time to ask the store again instead."""
        try:
            async with asyncio.timeout(_POLL_S):
                await self._work.wait()
        except TimeoutError:
            return False
        return True


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
