"""The graph as a store that has each transaction before its commit.

What was shipped and not committed is taken back by beginning the graph anew, from its newest base and the log: neither
engine's deletion is relied upon, and after an error the child must be replaced anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

from chaos.errors import StoreError, StoreUnavailable
from chaos.stores.graph import GraphStore
from chaos.stores.graph_terms import GraphRejected
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.graph_secondary import GraphSecondary
from chaos.transactions.rows import RedoRow
from chaos.transactions.shipper import ShipRefused
from chaos.transactions.system import Site
from chaos.workload.base import Genesis


class EpoxyGraph(GraphSecondary):
    """One transaction for each batch, committed before SQLite's."""

    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        """Follow `log` with `store`."""
        super().__init__(store, genesis, log, site)
        self._undecided = False
        self._generation: int | None = None

    async def applied(self) -> int:
        """Take back what was never committed, and return where the graph is. Raises StoreError."""
        if self._undecided:
            await self._site.phase("graph.purging", None, self.name)
            await self.store.renew()  # whoever serves next was filled from the log
            self._undecided = False
            await self._site.phase("graph.purged", None, self.name)
        return await super().applied()

    async def ship(self, rows: Sequence[RedoRow], horizon: int) -> None:
        """Commit a batch in the graph. Raises ShipRefused when the engine will never take it, and StoreError.

        After any of these nothing of it is left: the child that was asked is dead, or has done nothing.
        """
        del horizon  # readers have snapshots of the engine's own
        self._undecided = True
        try:
            outcome = await self.store.apply_all([_told(row) for row in rows])
        except GraphRejected as error:
            self._undecided = False
            raise ShipRefused(self.name, str(error.__cause__ or error)) from error
        except StoreError:
            self._undecided = False
            raise
        if outcome != "applied":
            self._undecided = False
            raise StoreUnavailable(self.name, f"the batch was not taken: {outcome}")
        self._note_effort(rows)
        state = self.store.state
        self._generation = None if state is None else state.generation

    async def keep(self, csn: int) -> None:
        """Note that what was shipped is committed. Raises StoreUnavailable when the child was replaced meanwhile.

        The new one has what the log had when it was filled, perhaps without this batch.
        """
        self._undecided = False
        state = self.store.state
        if state is None or state.generation != self._generation:
            raise StoreUnavailable(self.name, "the child was replaced before the commit")
        self._reached = csn
        await self._make_base_if_due(csn)


def _told(row: RedoRow) -> tuple[int, int, str, Sequence[tuple[str, dict[str, object]]]]:
    return (row.csn, row.previous, row.token, row.writes.graph)
