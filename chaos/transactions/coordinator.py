"""The coordinator: one transaction over SQLite, Redis and the graph, decided by SQLite's COMMIT alone.

The commit of a transaction is one transaction in SQLite that holds its rows, its place in the order of commits
(the CSN) and its writes for the other stores. Before it nothing has been written anywhere; after it the
transaction will be in every store, since appliers follow the log for ever. See docs/explanation/transactions.md
for what that promises and what it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from chaos.errors import StoreError, StoreInDoubt, TransactionAborted, TransactionInDoubt
from chaos.stores import policies
from chaos.stores.sqlite import SQLiteStore, WriteTransaction
from chaos.transactions.applier import Applier, ApplierDied
from chaos.transactions.commit_log import AlreadyCommitted, CommitLog, Fenced, RedoRow
from chaos.transactions.stores import Stores
from chaos.transactions.system import Aborted, Committed, InDoubt, Outcome, Resolution, Site
from chaos.transactions.tokens import Tokens
from chaos.transactions.unit import Transaction

LAG_MAX = 256
_OPEN_S = 5.0
_RECOVERY_S = 2.0
_CLOSE_S = 1.0


class Attempt:
    """One commit under way. `decided` gets its outcome at most once.

    Until COMMIT is handed to SQLite's thread the caller may abandon the attempt, and then it certainly never
    happens; afterwards nobody can call it back.
    """

    def __init__(self, unit: Transaction) -> None:
        """Begin undecided."""
        self.unit = unit
        self.handed_over = False
        self.decided: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def abandoned(self) -> bool:
        """Whether the outcome is settled although COMMIT was never called."""
        return self.decided.done() and not self.handed_over

    def abandon(self, reason: str) -> bool:
        """Give up; True when that came in time, and the outcome is Aborted."""
        if not self.handed_over:
            self.decide(Aborted(reason=reason))
        return self.abandoned

    def decide(self, outcome: Outcome) -> None:
        """Settle the outcome; only the first time counts."""
        if not self.decided.done():
            self.decided.set_result(outcome)


class Coordinator:
    """Open it, `recover`, run any number of concurrent transactions, close it."""

    def __init__(self, stores: Stores, log: CommitLog, appliers: Sequence[Applier], site: Site) -> None:
        """Put the parts together; nothing is connected or started."""
        self._stores = stores
        self._sqlite: SQLiteStore = stores.sqlite
        self._log = log
        self._appliers = tuple(appliers)
        self._site = site
        self._commit_lock = asyncio.Lock()
        self._tokens = Tokens()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed_to_work: str | None = "recovery is not finished"

    async def open(self) -> None:
        """Take over the commit log and start following it. Raises StoreUnavailable after 5 s."""
        async for attempt in policies.sqlite_open(_OPEN_S):
            with attempt:
                await self._sqlite.open(self._log.take_over)
        self._stores.graph.open()
        for applier in self._appliers:
            applier.start()

    async def recover(self, in_doubt: Sequence[str] = (), *, limit_s: float = _RECOVERY_S) -> dict[str, Resolution]:
        """Bring the stores up to the log, then admit transactions; return what became of the tokens `in_doubt`.

        A store that is away is not waited for longer than `limit_s`: its applier goes on. A token is left out
        when, after another `limit_s` for all of them, its body or its commit is still under way: nothing is
        called aborted that could still commit. Once it is called that, this process refuses the token (it
        remembers so in memory only; a later process does not). Raises StoreError when SQLite cannot be read,
        and ApplierDied when only a new process can bring a store up.
        """
        await self._site.phase("recovering")
        try:
            async with asyncio.timeout(limit_s):
                await self._caught_up(self._log.last_csn)
        except TimeoutError:
            pass  # degraded: the back-pressure in _admit bounds how far behind a store may fall
        resolved: dict[str, Resolution] = {}
        loop = asyncio.get_running_loop()
        patience_ends = loop.time() + limit_s
        for token in in_doubt:
            idle = await self._tokens.idle(token, max(0.0, patience_ends - loop.time()))
            outcome = await self._resolve(token, limit_s) if idle else None
            if outcome is not None:
                resolved[token] = outcome
        if self._closed_to_work == "recovery is not finished":
            self._closed_to_work = None
        await self._site.phase("recovered")
        return resolved

    @asynccontextmanager
    async def transaction(self, *, deadline_s: float, token: str) -> AsyncIterator[Transaction]:
        """Run the block as one transaction and commit it on leaving; `deadline_s` covers everything.

        Raises TransactionAborted (took effect nowhere, and never will) or TransactionInDoubt (look `token` up
        with `recover`). Afterwards `csn` and `applied` of the transaction say where it is; applied False: the
        deadline came when some store was still behind. An exception of the block aborts and passes through.
        Cancellation: the outcome is unknown to the caller then, and `recover` tells it.
        """
        deadline = asyncio.get_running_loop().time() + deadline_s
        self._admit(token)
        unit = Transaction(token, self._sqlite, self._stores.redis, self._stores.graph)
        with self._tokens.held(token):  # no await lies before this, so a `recover` that is asked later knows of it
            try:
                async with asyncio.timeout_at(deadline):
                    await self._site.phase("begin", token)
                    yield unit
                    await self._site.phase("buffered", token)
            except TimeoutError:
                raise TransactionAborted(token, "the deadline passed before the commit") from None
            except StoreError as error:
                raise TransactionAborted(token, str(error)) from error
            outcome = await self._commit(unit, deadline)
        await self._finish(unit, outcome, deadline)

    async def close(self) -> None:
        """Stop; commits under way get a second. What is committed but not applied is left to the next process."""
        self._closed_to_work = "closing"
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for applier in self._appliers:
            await applier.close()
        await self._stores.close()

    def _admit(self, token: str) -> None:
        """Refuse work that could only pile up, and tokens that `Tokens.admit` refuses. Raises TransactionError."""
        if self._closed_to_work is not None:
            raise TransactionAborted(token, self._closed_to_work)
        if self._sqlite.halted is not None:
            raise TransactionAborted(token, f"sqlite: halted: {self._sqlite.halted}")
        self._tokens.admit(token)
        for applier in self._appliers:
            if applier.died is not None:
                raise TransactionAborted(token, str(applier.died))
            lag = self._log.last_csn - applier.applied
            if lag > LAG_MAX:
                raise TransactionAborted(token, f"{applier.name} is {lag} transactions behind: {applier.trouble}")

    async def _finish(self, unit: Transaction, outcome: Outcome, deadline: float) -> None:
        """Turn `outcome` into an exception, or wait for the appliers until `deadline`."""
        if isinstance(outcome, Aborted):
            raise TransactionAborted(unit.token, outcome.reason)
        if isinstance(outcome, InDoubt):
            raise TransactionInDoubt(unit.token, outcome.reason)
        unit.csn = outcome.csn
        try:
            async with asyncio.timeout_at(deadline):
                await self._caught_up(outcome.csn)
            unit.applied = True
        except (TimeoutError, ApplierDied):
            unit.applied = False  # committed all the same; whoever comes next is told of the death by _admit
        if unit.applied:
            await self._site.phase("applied", unit.token)
        await self._site.phase("acknowledged", unit.token)

    async def _caught_up(self, csn: int) -> None:
        for applier in self._appliers:
            await applier.wait_for(csn)

    async def _commit(self, unit: Transaction, deadline: float) -> Outcome:
        """Start the commit in a task that nobody cancels, and wait for its outcome until `deadline`."""
        attempt = Attempt(unit)
        loop = asyncio.get_running_loop()
        self._tokens.hold(unit.token)
        task = loop.create_task(self._run(attempt))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._tokens.release(unit.token))
        try:
            await asyncio.wait({attempt.decided}, timeout=max(0.0, deadline - loop.time()))
        except asyncio.CancelledError:
            attempt.abandon("cancelled before the commit")
            raise
        if not attempt.decided.done() and not attempt.abandon("the deadline passed before the commit"):
            return InDoubt(reason="the deadline passed during COMMIT")
        return attempt.decided.result()

    async def _run(self, attempt: Attempt) -> None:
        """Queue, commit, and hand the row to the appliers; decides `attempt` in every case but one.

        A COMMIT in doubt stays undecided until SQLite has been read anew, and nothing else commits meanwhile.
        """
        unit = attempt.unit
        try:
            await self._site.phase("queued", unit.token)
            async with self._commit_lock:
                try:
                    row = await self._write(attempt)
                finally:
                    if self._sqlite.halted is not None and self._closed_to_work is None:
                        await self._log.reopen()
                if row is not None:
                    await self._site.phase("sqlite.committed", unit.token, "sqlite")
                    for applier in self._appliers:
                        applier.offer(row)
                    await self._sqlite.checkpoint_if_due()
        except AlreadyCommitted as error:
            attempt.decide(Committed(csn=error.csn))
        except Fenced as error:
            self._closed_to_work = str(error)
            attempt.decide(self._give_up(attempt, error))
        except StoreError as error:
            attempt.decide(Aborted(reason=str(error)))
        except BaseException as error:
            attempt.decide(self._give_up(attempt, error))
            raise

    @staticmethod
    def _give_up(attempt: Attempt, error: BaseException) -> Outcome:
        reason = f"{type(error).__name__}: {error}"
        return InDoubt(reason=reason) if attempt.handed_over else Aborted(reason=reason)

    async def _write(self, attempt: Attempt) -> RedoRow | None:
        """Run the transaction in SQLite; return its row once durable, None when it did not happen.

        Raises StoreUnavailable when it is certainly gone, Fenced, or AlreadyCommitted.
        """
        if attempt.abandoned:
            return None
        row: RedoRow | None = None
        try:
            async with self._sqlite.write() as transaction:
                row = await self._prepare(attempt, transaction)
                if attempt.abandoned:
                    return None
                # From here on the caller can no longer abandon: no await lies between this and the call.
                attempt.handed_over = True
                await transaction.commit()
        except StoreInDoubt as error:
            await self._log.reopen()
            if row is None or await self._look_up(attempt.unit.token) is None:
                attempt.decide(Aborted(reason=f"{error}; the log was read anew, and it is not there"))
                return None
        assert row is not None
        self._log.committed(row)
        attempt.decide(Committed(csn=row.csn))
        return row

    async def _prepare(self, attempt: Attempt, transaction: WriteTransaction) -> RedoRow:
        await self._site.phase("sqlite.begun", attempt.unit.token, "sqlite")
        row = await self._log.append(transaction, attempt.unit)
        await self._site.phase("sqlite.committing", attempt.unit.token, "sqlite")
        return row

    async def _look_up(self, token: str) -> int | None:
        async for attempt in policies.sqlite_reopen():
            with attempt:
                return await self._log.csn_of(token)
        raise AssertionError("the policy never stops")

    async def _resolve(self, token: str, limit_s: float) -> Resolution:
        """Look up a token of which nothing is under way; refuse it from then on when it is not in the log.

        No await lies between the caller's finding that out and the question, which keeps new attempts away.
        """
        with self._tokens.question(token):
            async for attempt in policies.sqlite_open(limit_s):
                with attempt:
                    if await self._log.csn_of(token) is not None:
                        return "committed"
                    self._tokens.refuse(token)
                    return "aborted"
        raise AssertionError("the policy raises in the end")
