"""Group commit: one task commits whatever waits, in one transaction of SQLite, with one sync.

No timer holds anybody back: the leader takes all that wait at the moment when it is free, up to `BATCH_MAX`, and
whoever comes meanwhile goes with the next batch. So a batch grows with the load, and none waits for longer than
one batch and those that came before it.

Each transaction of a batch has a savepoint, so that one whose rows the data do not allow is undone alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from chaos.errors import StoreError, StoreInDoubt
from chaos.stores import policies
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.applier import Applier
from chaos.transactions.attempt import Attempt
from chaos.transactions.commit_log import CommitLog, Fenced
from chaos.transactions.footprint import Conflict, Validation
from chaos.transactions.local_site import QuietSite
from chaos.transactions.rows import AlreadyCommitted, BatchLost, RedoRow, Result
from chaos.transactions.system import Aborted, Committed, InDoubt, Outcome, Site
from chaos.transactions.tokens import Tokens
from chaos.transactions.window import Window

BATCH_MAX = 64


class Leader:
    """The only one who commits. `stopped` says why nothing will be committed any more; None while it works."""

    _commits_at_once = True
    """Whether COMMIT may follow the last row without a word, when nobody wants to hear of the steps between."""

    def __init__(
        self, sqlite: SQLiteStore, log: CommitLog, appliers: Sequence[Applier], tokens: Tokens, site: Site
    ) -> None:
        """Nothing runs yet; see `start`. Tokens are held from `submit` until their batch has ended."""
        self._sqlite = sqlite
        self._log = log
        self._appliers = tuple(appliers)
        self._tokens = tokens
        self._site = site
        self._quiet = isinstance(site, QuietSite)  # then nothing can happen between BEGIN and COMMIT
        self._queue: deque[Attempt] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.stopped: str | None = None
        self.batch_count = 0
        self.still = asyncio.Lock()
        """Whoever holds it knows that nobody commits."""

        self.window = Window()

    def start(self) -> None:
        """Begin to lead; what was written before is too old to be compared with."""
        self.window.oldest = self._log.last_csn
        self._task = asyncio.get_running_loop().create_task(self._run())

    def submit(self, attempt: Attempt) -> None:
        """Queue an attempt; the leader decides it, unless its outcome stays in doubt for as long as SQLite is away."""
        self._tokens.hold(attempt.unit.token)
        self._queue.append(attempt)
        self._work.set()

    async def close(self, patience_s: float) -> None:
        """Stop; what is queued and under way gets `patience_s`. Idempotent."""
        self.stopped = self.stopped or "closing"
        if self._task is None:
            return
        try:
            async with asyncio.timeout(patience_s):
                while self._queue or not self._idle.is_set():
                    await self._idle.wait()
        except TimeoutError:
            pass
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._settle(list(self._queue), InDoubt(reason="closed while waiting"))

    async def _run(self) -> None:
        while True:
            while not self._queue:
                self._work.clear()
                self._idle.set()
                await self._work.wait()
            self._idle.clear()
            batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
            try:
                await self._lead(batch)
            finally:
                for attempt in batch:
                    self._tokens.release(attempt.unit.token)

    async def _lead(self, batch: list[Attempt]) -> None:
        """Commit a batch. Decides each of its attempts; only the end of this task leaves SQLite's doubts open."""
        try:
            try:
                await self._commit(batch)
            except BatchLost:
                for attempt in batch:  # one of them sank the others; alone it sinks only itself
                    await self._commit([attempt])
        except Fenced as error:
            self.stopped = str(error)
            self._settle(batch, error)
        except StoreError as error:
            self._settle(batch, Aborted(reason=str(error)))
        except asyncio.CancelledError as error:
            self._settle(batch, error)
            raise
        except Exception as error:  # noqa: BLE001  # it is told to everybody it concerns; others may be luckier
            self._settle(batch, error)

    async def _commit(self, batch: list[Attempt]) -> None:
        """Commit those of `batch` that are not abandoned. Raises what `_write` raises."""
        async with self.still:
            rows = await self._commit_rows(batch)
        await self._after_commit(rows)
        if rows:
            for applier in self._appliers:
                applier.offer(rows)
            await self._sqlite.checkpoint_if_due()

    async def _commit_rows(self, batch: list[Attempt]) -> list[RedoRow]:
        rows: list[RedoRow] | None = None
        try:
            while rows is None:
                rows = await self._write([attempt for attempt in batch if not attempt.abandoned])
        except BatchLost as error:
            if len(batch) > 1:
                raise
            self._settle(batch, Aborted(reason=str(error)))
        finally:
            if self._sqlite.halted is not None and self.stopped is None:
                await self._log.reopen()
        return rows or []

    async def _write(self, batch: list[Attempt]) -> list[RedoRow] | None:
        """Run a batch in one transaction of SQLite; return the rows that are durable, None to try again without some.

        Raises StoreUnavailable when all is certainly gone, BatchLost among them, or Fenced.
        """
        if not batch:
            return []
        results: Sequence[Result] = ()
        at_once = self._quiet and self._commits_at_once
        try:
            async with self._sqlite.write(begin=not self._quiet) as transaction:
                if not await self._told(batch, "sqlite.begun"):
                    return None
                units = [attempt.unit for attempt in batch]
                for attempt in batch if at_once else ():
                    attempt.handed_over = True
                try:
                    results = await self._log.append(
                        transaction, units, Validation(self.window), begin=self._quiet, commit=at_once
                    )
                finally:
                    for attempt in () if transaction.commit_called else batch:
                        attempt.handed_over = False
                rows = [one for one in results if isinstance(one, RedoRow)]
                going = [attempt for attempt, one in zip(batch, results, strict=True) if isinstance(one, RedoRow)]
                if not await self._before_commit(going, rows) or not await self._told(going, "sqlite.committing"):
                    return None
                # From here on the callers can no longer abandon: no await lies between this and the call.
                for attempt in going:
                    attempt.handed_over = True
                if going:
                    await transaction.commit()
                    self.batch_count += 1
        except StoreInDoubt as error:
            await self._log.reopen()
            results = [await self._looked_up(one, error) for one in results]
            rows = [one for one in results if isinstance(one, RedoRow)]
        self._note(batch, results)
        self._decide(batch, results)
        return rows

    async def _before_commit(self, going: Sequence[Attempt], rows: Sequence[RedoRow]) -> bool:
        """Do what has to be done before COMMIT with rows that have their numbers: here nothing. False: begin anew."""
        return True

    async def _after_commit(self, rows: Sequence[RedoRow]) -> None:
        """Tell that rows are durable."""
        for row in () if self._quiet else rows:
            await self._site.phase("sqlite.committed", row.token, "sqlite")

    async def _told(self, batch: Sequence[Attempt], phase: str) -> bool:
        """Tell the phase of each; False when one of them was abandoned meanwhile."""
        for attempt in () if self._quiet else batch:
            await self._site.phase(phase, attempt.unit.token, "sqlite")
        return not any(attempt.abandoned for attempt in batch)

    def _note(self, batch: Sequence[Attempt], results: Sequence[Result]) -> None:
        for attempt, one in zip(batch, results, strict=True):
            if isinstance(one, RedoRow):
                self.window.add(one.csn, attempt.unit.footprint.writes)
                self._log.committed(one)

    @staticmethod
    def _decide(batch: Sequence[Attempt], results: Sequence[Result]) -> None:
        for attempt, one in zip(batch, results, strict=True):
            if isinstance(one, RedoRow | AlreadyCommitted):
                attempt.decide(Committed(csn=one.csn))
            else:
                attempt.decide(Aborted(reason=str(one), retryable=isinstance(one, Conflict)))

    @staticmethod
    def _settle(batch: Sequence[Attempt], why: BaseException | Outcome) -> None:
        """Decide what is undecided: what was not handed over is aborted, of the rest only recovery knows."""
        for attempt in batch:
            reason = f"{type(why).__name__}: {why}" if isinstance(why, BaseException) else why.reason  # type: ignore[union-attr]  # never Committed
            attempt.decide(InDoubt(reason=reason) if attempt.handed_over else Aborted(reason=reason))

    async def _looked_up(self, result: Result, doubt: StoreInDoubt) -> Result:
        """Say what became of a row whose COMMIT failed, now that the log was read anew."""
        if isinstance(result, StoreError | Conflict):
            return result
        async for attempt in policies.sqlite_reopen():
            with attempt:
                if await self._log.csn_of(result.token) is not None:
                    return result
                return StoreError("sqlite", f"{doubt}; the log was read anew, and it is not there")
        raise AssertionError("the policy never stops")
