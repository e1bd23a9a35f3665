"""Snapshots of all three stores at one commit sequence number, shared by whoever reads at the same time.

SQLite says which number it is: its snapshot is opened first, and the newest commit that it sees is the snapshot's.
The graph is added only when somebody reads it: its applier is stopped at that number for the moment in which the
graph's snapshot is opened. Redis has no snapshots; its applier keeps what it overwrites (see `redis_snapshot`), from
the first transaction after the number on, and so is held back until the number is known.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from chaos.errors import ChaosError, StoreUnavailable
from chaos.stores.background import Background
from chaos.stores.graph_readers import GraphSnapshot
from chaos.stores.sqlite import SQLiteSnapshot
from chaos.transactions.applier import Applier
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.stores import Stores

_PATIENCE_S = 2.0
"""How long the graph may take to come up to a snapshot's number; its applier stands still then."""


class Snapshot:
    """One state of all stores: that after `csn`. `graph` is None when it was opened without.

    broken: a store has refused to read it, so nobody else is given it.
    """

    def __init__(self, csn: int, sqlite: SQLiteSnapshot, closing: AsyncExitStack) -> None:
        """Belong to nobody yet; `closing` ends it in the stores."""
        self.csn = csn
        self.sqlite = sqlite
        self.graph: GraphSnapshot | None = None
        self.users = 0
        self.broken = False
        self.closing = closing


class Snapshots:
    """Opens and shares them. Whoever acquires one must release it."""

    def __init__(
        self, stores: Stores, log: CommitLog, redis: Applier, graph: Applier, *, still: asyncio.Lock | None = None
    ) -> None:
        """Nothing is open. still: held while the graph is opened, where it may have what is not committed."""
        self._stores = stores
        self._log = log
        self._redis = redis
        self._graph = graph
        self._open: list[Snapshot] = []
        self._opening: asyncio.Task[None] | None = None
        self._opening_has_graph = False
        self._waiting = 0
        self._background = Background()
        self._still = still

    def numbers(self) -> set[int]:
        """Return the numbers of those that are open."""
        return {snapshot.csn for snapshot in self._open}

    async def acquire(self, *, graph: bool = False) -> Snapshot:
        """Return a snapshot of everything that was committed before the call, with the graph in it if asked for.

        Raises StoreUnavailable. Cancellation: safe.
        """
        least = self._log.last_csn
        while True:
            for snapshot in self._open:
                fresh = snapshot.csn >= least and not snapshot.broken
                if fresh and (snapshot.graph is not None or not graph):
                    snapshot.users += 1
                    return snapshot
            if self._opening is None or self._opening.done():
                self._opening_has_graph = graph
                self._opening = self._background.start(self._make(graph=graph))
                self._opening.add_done_callback(self._opened)
            await self._join(self._opening, concerned=self._opening_has_graph <= graph)

    def release(self, snapshot: Snapshot) -> None:
        """Give a snapshot back; the last user closes it."""
        snapshot.users -= 1
        self._close_unused()

    async def close(self) -> None:
        """Wait until what is being opened or closed is done."""
        await self._background.wait_idle()

    async def _join(self, opening: asyncio.Task[None], *, concerned: bool) -> None:
        """Wait for an opening, and raise its error if that is the caller's concern."""
        self._waiting += 1
        try:
            await asyncio.shield(opening)
        except ChaosError:
            if concerned:
                raise
        finally:
            self._waiting -= 1
            asyncio.get_running_loop().call_soon(self._close_unused)  # after the caller has taken its one

    def _opened(self, _: asyncio.Task[None]) -> None:
        self._close_unused()

    def _close_unused(self) -> None:
        """Close what nobody uses, unless somebody is about to take it."""
        if self._waiting:
            return
        for snapshot in [one for one in self._open if not one.users]:
            self._open.remove(snapshot)
            self._background.start(snapshot.closing.aclose())

    async def _make(self, *, graph: bool) -> None:
        if graph and self._still is not None:
            async with self._still:
                await self._open_one(graph=True)
        else:
            await self._open_one(graph=graph)

    async def _open_one(self, *, graph: bool) -> None:
        """Open a snapshot; the appliers stand still while its number is not known."""
        low = self._log.last_csn
        self._redis.stop_at(low)
        if graph:
            self._graph.stop_at(low)
        stack = AsyncExitStack()
        try:
            sqlite = await stack.enter_async_context(self._stores.sqlite.snapshot())
            [(found,)] = await sqlite.fetch("SELECT max(csn) FROM commits")
            snapshot = Snapshot(found or 0, sqlite, stack)
            self._open.append(snapshot)
            self._redis.stop_at(None)
            if graph:
                await self._add_graph(snapshot)
        except BaseException:
            if not any(one.closing is stack for one in self._open):
                await stack.aclose()
            raise
        finally:
            self._redis.stop_at(None)
            if graph:
                self._graph.stop_at(None)

    async def _add_graph(self, snapshot: Snapshot) -> None:
        """Open the graph at the snapshot's number. Raises StoreUnavailable; others may use the rest all the same."""
        snapshot.users += 1  # not to be closed meanwhile
        try:
            self._graph.stop_at(snapshot.csn)
            async with asyncio.timeout(_PATIENCE_S):
                await self._graph.wait_for(snapshot.csn)
            graph = await snapshot.closing.enter_async_context(self._stores.graph.snapshot())
            applied = await self._stores.graph.applied()  # of the same child, or the snapshot is dead already
            if applied != snapshot.csn:
                raise StoreUnavailable("graph", f"applied={applied} and not csn={snapshot.csn}")
            snapshot.graph = graph
        except TimeoutError:
            raise StoreUnavailable("graph", f"behind: {self._graph.trouble or 'not yet up to the snapshot'}") from None
        finally:
            snapshot.users -= 1
