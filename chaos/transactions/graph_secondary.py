"""The graph as a store that follows the commit log.

No engine's own recovery is relied upon. A database that was closed in peace bears a seal in SQLite, and is opened
again as long as its files have that hash. Whatever else is there, after a crash of the engine, of the coordinator or
of the machine, is set aside, and the graph is made again from the log: from the newest base, a copy that another
process has opened, and the rows after it. Nobody can read it before it is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from chaos.errors import ChaosError, StoreUnavailable
from chaos.stores.graph import Ask, GraphState, GraphStore
from chaos.stores.graph_files import Base, Plan
from chaos.transactions.commit_log import CommitLog, RedoRow
from chaos.transactions.system import Site
from chaos.workload.base import Genesis

BASE_EVERY = 2000
"""Transactions from one base to the next. Applying them again takes one to four seconds, after a copy of the base."""


class GraphSecondary:
    """The graph: one transaction per transaction. The recovery of its store."""

    name = "graph"
    checked = True
    base_every = BASE_EVERY

    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        """Follow `log` with `store`, and see to what its children open."""
        self.store = store
        self.log = log
        self._genesis = genesis
        self._site = site
        self._attempts = 0
        self._next_base: int | None = None
        self._proof: asyncio.Task[None] | None = None
        self.base_refused: ChaosError | None = None
        """Why the last copy was not taken for a base; None when it was. The log then keeps more rows."""

        store.recovery = self

    async def plan(self) -> Plan:
        """Let the sealed files be opened, once; else a base. When that fails, the next attempt takes another one."""
        beginnings = await self._bases()
        _, base = beginnings[self._attempts % len(beginnings)]
        self._attempts += 1
        return Plan(seal=self.log.take_seal(self.name), base=base)

    async def fill(self, found: GraphState, ask: Ask) -> int:
        """Accept what was kept when it has as many transactions as the log; apply everything again otherwise."""
        if found.kept:
            await self._verify(found)
        told = not found.kept and self.log.last_csn > 0
        if told:
            await self._site.phase("graph.rebuilding", None, self.name)
        applied = found.applied
        if applied is None:
            genesis = self._genesis
            statements = [list(statement) for statement in genesis.rows.graph]
            await ask("seed", {"schema": list(genesis.graph_schema), "statements": statements})
            applied = 0
        while applied < self.log.last_csn and (rows := await self.log.after(applied)):
            await ask("apply_all", {"rows": [_to_apply(row) for row in rows]})
            applied = rows[-1].csn
        if told:
            await self._site.phase("graph.rebuilt", None, self.name)
        self._attempts = 0
        return applied

    async def _verify(self, found: GraphState) -> None:
        expected = 1 + await self.log.count_up_to(found.applied or 0)  # one more: number 0 of the first rows
        if found.applied is None or found.applied > self.log.last_csn or found.count != expected:
            why = f"count={found.count} transactions up to csn={found.applied}, not {expected}"
            raise StoreUnavailable(self.name, why)

    async def applied(self) -> int:
        """Ask for the number of the last transaction. Raises StoreError."""
        await self.store.wait_ready(1.0)
        applied = await self.store.applied()
        if applied is None:
            raise StoreUnavailable(self.name, "it was never seeded")
        return applied

    async def apply(self, row: RedoRow) -> bool:
        """Run the transaction's statements and its mark in one transaction of the graph; now and then make a base."""
        outcome = await self.store.apply(row.csn, row.previous, row.token, row.writes.graph, checked=self.checked)
        if outcome != "gap":
            await self._make_base_if_due(row.csn)
        return outcome != "gap"

    async def close(self) -> None:
        """Close the graph, and note that this went well. Raises StoreError or Fenced."""
        if self._proof is not None:
            self._proof.cancel()
            await asyncio.gather(self._proof, return_exceptions=True)
        seal = await self.store.close()
        if seal is not None:
            await self.log.seal(self.name, seal)

    async def _make_base_if_due(self, csn: int) -> None:
        """Copy the database where it stands; that the copy can be read is found out while work goes on."""
        if self._next_base is None:
            self._next_base = max(csn for csn, _ in await self._bases()) + self.base_every
        if csn < self._next_base or (self._proof is not None and not self._proof.done()):
            return
        self._next_base = csn + self.base_every  # before trying: one that fails is not tried at each transaction
        keep = [base.file for _, base in await self._bases() if base is not None]
        base, census = await self.store.make_base(str(csn), keep)
        self._proof = asyncio.create_task(self._prove(csn, base, census))

    async def _prove(self, csn: int, base: Base, census: Mapping[str, int]) -> None:
        try:
            await self.store.prove(base, census)
            await self.log.add_base(self.name, csn, msgspec.json.encode(base).decode())
            self.base_refused = None
        except ChaosError as error:
            self.base_refused = error

    async def _bases(self) -> list[tuple[int, Base | None]]:
        found = await self.log.beginnings(self.name)
        return [(csn, None if text is None else msgspec.json.decode(text, type=Base)) for csn, text in found]


def _to_apply(row: RedoRow) -> dict[str, object]:
    statements = [list(statement) for statement in row.writes.graph]
    return {"csn": row.csn, "previous": row.previous, "token": row.token, "statements": statements}
