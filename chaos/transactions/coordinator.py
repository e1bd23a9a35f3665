"""The coordinator: one transaction over SQLite, Redis and the graph, decided by SQLite's COMMIT alone.

The commit of a transaction is one transaction in SQLite that holds its rows, its place in the order of commits
(the CSN) and its writes for the other stores. Before it nothing has been written anywhere; after it the
transaction will be in every store, since appliers follow the log for ever. See docs/explanation/transactions.md
for what that promises and what it does not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from chaos.errors import StoreError, TransactionAborted, TransactionInDoubt
from chaos.stores import policies
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.applier import Applier, ApplierDied
from chaos.transactions.attempt import Attempt
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.leader import Leader
from chaos.transactions.redis_snapshot import KeptValues
from chaos.transactions.snapshots import Snapshots
from chaos.transactions.sql import Statements
from chaos.transactions.stores import Stores
from chaos.transactions.system import Aborted, Committed, Resolution, Site
from chaos.transactions.tokens import Tokens
from chaos.transactions.unit import Isolation, Transaction
from chaos.transactions.view import Desk, RedisReading, SnapshotView

Acknowledge = Literal["applied", "durable"]

LAG_MAX = 256
"""Transactions that a store may be behind; those that come then wait for it, until their deadline."""

_OPEN_S = 5.0
_RECOVERY_S = 2.0
_CLOSE_S = 1.0


class Coordinator:
    """Open it, `recover`, run any number of concurrent transactions, close it."""

    def __init__(
        self,
        stores: Stores,
        log: CommitLog,
        appliers: tuple[Applier, Applier],
        site: Site,
        *,
        acknowledge: Acknowledge = "applied",
    ) -> None:
        """Put the parts together; nothing is connected or started. appliers: Redis's, then the graph's.

        acknowledge: "applied" answers when every store has the transaction, "durable" as soon as it is decided.
        """
        self._stores = stores
        self._sqlite: SQLiteStore = stores.sqlite
        self._log = log
        self._appliers = appliers
        self._site = site
        self._acknowledge = acknowledge
        self._tokens = Tokens()
        self._leader = self._make_leader()
        self._snapshots = self._make_snapshots()
        reading = self._make_reading()
        self._desk = Desk(stores, reading, self._snapshots, self._leader.window, Statements(), self._leader)
        self._closed_to_work: str | None = "recovery is not finished"

    def _make_leader(self) -> Leader:
        return Leader(self._sqlite, self._log, self._appliers, self._tokens, self._site)

    def _make_snapshots(self) -> Snapshots:
        return Snapshots(self._stores, self._log, *self._appliers)

    def _make_reading(self) -> RedisReading:
        return KeptValues(self._stores.redis)

    def snapshot_numbers(self) -> set[int]:
        """Return as of which commits somebody reads just now."""
        return self._snapshots.numbers()

    @property
    def sqlite_commits(self) -> int:
        """How many batches SQLite has committed since `open`, each with one sync."""
        return self._leader.batch_count

    async def open(self) -> None:
        """Take over the commit log and start following it. Raises StoreUnavailable after 5 s."""
        async for attempt in policies.sqlite_open(_OPEN_S):
            with attempt:
                await self._sqlite.open(self._log.take_over)
        self._stores.graph.open()
        for applier in self._appliers:
            applier.start()
        self._leader.start()

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
    async def transaction(
        self,
        *,
        deadline_s: float = 5.0,
        token: str | None = None,
        isolation: Isolation = "serializable",
        read_only: bool = False,
    ) -> AsyncIterator[Transaction]:
        """Run the block as one transaction and commit it on leaving; `deadline_s` covers everything.

        token: names the transaction, at most once for ever: asked for again it is not run but told its number. A
        caller who may have to ask what became of it after a crash gives one; None makes one up.
        isolation: "serializable" aborts when anything that was read has changed by the commit, "snapshot" only when
        something that is overwritten has. read_only: nothing may be written, and nothing has to be committed.

        Raises TransactionAborted (took effect nowhere, and never will) or TransactionInDoubt (look `token` up
        with `recover`). Afterwards `csn` and `applied` of the transaction say where it is; applied False: the
        deadline came when some store was still behind. An exception of the block aborts and passes through.
        Cancellation: the outcome is unknown to the caller then, and `recover` tells it.
        """
        token = token or os.urandom(16).hex()
        self._admit(token)
        stores = self._stores
        view = SnapshotView(token, self._desk, self._appliers[0], self._log)
        unit = Transaction(
            token, stores.sqlite, stores.redis, stores.graph, view=view, isolation=isolation, read_only=read_only
        )
        attempt: Attempt | None = None
        try:
            async with asyncio.timeout(deadline_s):
                self._tokens.hold(token)  # nothing was waited for before this, so a `recover` asked later knows of it
                try:
                    if not read_only:
                        await self._wait_for_room(token)
                    await self._site.phase("begin", token)
                    yield unit
                    await self._site.phase("buffered", token)
                    attempt = None if read_only else await self._submit(unit, view)
                finally:
                    self._tokens.release(token)
                outcome = None if attempt is None else await attempt.decided()
                if isinstance(outcome, Committed) and self._acknowledge == "applied":
                    # The graph is the slower one: whoever has waited for it finds Redis done, and is woken once.
                    await self._appliers[1].wait_for(outcome.csn)
                    await self._appliers[0].wait_for(outcome.csn)
        except TimeoutError:
            if attempt is None:
                raise TransactionAborted(token, self._why_late()) from None
            attempt.abandon("the deadline passed before the commit")
        except ApplierDied as error:
            if attempt is None:  # a read waited for it
                raise TransactionAborted(token, str(error)) from error
            # committed all the same; whoever comes next is told of the death by _admit
        except StoreError as error:
            raise TransactionAborted(token, str(error)) from error
        except asyncio.CancelledError:
            if attempt is not None:
                attempt.abandon("cancelled before the commit")
            raise
        finally:
            view.close()
            unit.end()
        await self._finish(unit, attempt)

    async def _submit(self, unit: Transaction, view: SnapshotView) -> Attempt:
        """Hand a transaction over to the leader, and its snapshot back."""
        unit.footprint = await view.footprint(unit)
        view.close()
        await self._site.phase("queued", unit.token)
        attempt = Attempt(unit)
        self._leader.submit(attempt)
        return attempt

    async def close(self) -> None:
        """Stop; commits under way get a second. What is committed but not applied is left to the next process."""
        self._closed_to_work = "closing"
        await self._leader.close(_CLOSE_S)
        await self._snapshots.close()
        for applier in self._appliers:
            await applier.close()
        await self._stores.close()

    def _admit(self, token: str) -> None:
        """Refuse what cannot be done, and tokens that `Tokens.admit` refuses. Raises TransactionError."""
        if self._closed_to_work is not None:
            raise TransactionAborted(token, self._closed_to_work)
        if self._leader.stopped is not None:
            raise TransactionAborted(token, self._leader.stopped)
        if self._sqlite.halted is not None:
            raise TransactionAborted(token, f"sqlite: halted: {self._sqlite.halted}")
        self._tokens.admit(token)
        for applier in self._appliers:
            if applier.died is not None:
                raise TransactionAborted(token, str(applier.died))

    def _lag(self, applier: Applier) -> int:
        return self._log.last_csn - applier.applied

    def _why_late(self) -> str:
        """Say why a transaction was not committed by its deadline."""
        for applier in self._appliers:
            if (lag := self._lag(applier)) > LAG_MAX:
                why = applier.trouble or "it makes no progress"
                return f"the deadline passed; {applier.name} is {lag} transactions behind: {why}"
        return "the deadline passed before the commit"

    async def _wait_for_room(self, token: str) -> None:
        """Hold a transaction back while a store is far behind. Raises TransactionAborted when its applier has died."""
        for applier in self._appliers:
            while self._lag(applier) > LAG_MAX:
                try:
                    await applier.wait_for(applier.applied + 1)
                except ApplierDied as error:
                    raise TransactionAborted(token, str(error)) from error

    async def _finish(self, unit: Transaction, attempt: Attempt | None) -> None:
        """Turn the outcome into an exception, or note it in `unit`."""
        outcome = attempt.outcome if attempt is not None else None
        if unit.read_only:
            outcome = Committed(csn=self._log.last_csn if unit.view.csn is None else unit.view.csn)
        if isinstance(outcome, Aborted):
            raise TransactionAborted(unit.token, outcome.reason, retryable=outcome.retryable)
        if not isinstance(outcome, Committed):
            raise TransactionInDoubt(unit.token, outcome.reason if outcome else "the deadline passed during COMMIT")
        unit.csn = outcome.csn
        unit.applied = all(applier.has(outcome.csn) for applier in self._appliers)
        if unit.applied:
            await self._site.phase("applied", unit.token)
        await self._site.phase("acknowledged", unit.token)

    async def _caught_up(self, csn: int) -> None:
        for applier in self._appliers:
            await applier.wait_for(csn)

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
