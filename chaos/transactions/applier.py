"""Brings one store up to the commit log, row by row, for as long as the coordinator is open."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from chaos.errors import ChaosError, StoreError
from chaos.stores import policies
from chaos.transactions.commit_log import CommitLog, RedoRow
from chaos.transactions.secondaries import Secondary
from chaos.transactions.system import Site

_POLL_S = 0.25


class ApplierDied(ChaosError):
    """An applier ended by an error that nobody foresaw; only a new process brings its store up again."""


class Applier:
    """One task. `applied` is the last number that the store is known to have had.

    New rows come in through `offer`, older ones are read from the log. After any error the store is asked
    again where it is, before anything else is sent: that covers lost replies, late duplicates, restarts and
    lost data alike. An idle store is asked every quarter of a second, since it may have lost data unnoticed.
    An error that is no StoreError ends the task, for ever; `died` and `wait_for` tell so.
    """

    def __init__(self, secondary: Secondary, log: CommitLog, site: Site) -> None:
        """Nothing runs yet; see `start`."""
        self.name = secondary.name
        self.applied = 0
        self.trouble: StoreError | None = None
        self._secondary = secondary
        self._log = log
        self._site = site
        self._certain = False
        self._offered: deque[RedoRow] = deque()
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to follow the log."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _: self._wake())

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
            await self._secondary.close()

    def offer(self, row: RedoRow) -> None:
        """Hand over a row that has just become durable; rows are offered in order."""
        self._offered.append(row)
        self._work.set()

    async def wait_for(self, csn: int) -> None:
        """Wait until the store has `csn`. Raises ApplierDied when nothing brings it there. Safe to cancel."""
        while not self._certain or self.applied < csn:
            if self.died is not None:
                raise self.died
            await self._progress.wait()

    async def _run(self) -> None:
        while not self._closing:
            async for attempt in policies.apply_forever():
                with attempt:
                    await self._step()

    async def _step(self) -> None:
        try:
            if not self._certain:
                self._note(await self._secondary.applied())
            row = await self._next()
            if row is not None:
                await self._apply(row)
            elif not await self._woken():
                self._note(await self._secondary.applied())
        except StoreError as error:
            self._certain = False
            self.trouble = error
            raise
        self.trouble = None

    async def _apply(self, row: RedoRow) -> None:
        await self._site.phase(f"{self.name}.applying", row.token, self.name)
        if await self._secondary.apply(row):
            await self._site.phase(f"{self.name}.applied", row.token, self.name)
            self._note(row.csn)
        else:
            self._certain = False  # the store went back in time: ask it where it is

    def _note(self, applied: int) -> None:
        self._log.raise_floor(applied)
        self.applied = applied
        self._certain = True
        self._wake()

    def _wake(self) -> None:
        """Let everybody in `wait_for` look again."""
        self._progress.set()
        self._progress = asyncio.Event()

    async def _next(self) -> RedoRow | None:
        """Return the row after the last applied one; None when there is none yet."""
        self._work.clear()
        while self._offered and self._offered[0].csn <= self.applied:
            self._offered.popleft()
        at_hand = self._offered and self._offered[0].previous <= self.applied
        if not at_hand and self._log.last_csn > self.applied:
            self._offered = deque(await self._log.after(self.applied))
        return self._offered[0] if self._offered else None

    async def _woken(self) -> bool:
        """Wait for work; False when it is time to ask the store again instead."""
        try:
            async with asyncio.timeout(_POLL_S):
                await self._work.wait()
        except TimeoutError:
            return False
        return True
