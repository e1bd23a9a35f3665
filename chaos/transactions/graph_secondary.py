"""The graph as a store that follows the commit log.

No engine's own recovery is relied upon. A database that was closed in peace bears a seal in SQLite, and is opened
again as long as its files have that hash. Whatever else is there, after a crash of the engine, of the coordinator or
of the machine, is set aside, and the graph is made again from the log: from the newest base, a copy that another
process has opened, and the rows after it. Nobody can read it before it is complete.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from chaos._channel import RemoteError
from chaos.errors import ChaosError, StoreError, StoreUnavailable
from chaos.stores.graph import GraphStore
from chaos.stores.graph_files import Base, Plan
from chaos.stores.graph_terms import Ask, GraphRejected, GraphState, Told, blames_the_statement, to_tell
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.rows import RedoRow
from chaos.transactions.secondaries import BATCH_MAX
from chaos.transactions.system import Site
from chaos.workload.base import Genesis

BASE_EVERY = 4000
"""Effort from one base to the next: statements, and `_ALONE` for each transaction that goes alone.

To apply them again takes about a second (0.15 to 0.3 ms each, with either engine, on a machine that has nothing else to
do), after a copy of the base. To make a base takes a tenth of a second and more, in which nothing is applied, and a
third of a second of another process.
"""

_ALONE = 10
"""Statements that take as long as a commit."""

_DELETES = re.compile(r"\bdelete\b", re.IGNORECASE)

TRY_AGAIN_AFTER = 100
"""Effort until a base that could not be made is tried again."""


class GraphSecondary:
    """The graph: one transaction for each batch. The recovery of its store.

    An error of any kind undoes the whole batch, so its rows are then sent one by one. A row that the engine refuses
    alone, several times over and in the same words, will never be taken: that is noted in the log, and the graph
    goes on without it.
    """

    name = "graph"
    checked = True
    base_every = BASE_EVERY
    refusals_max = 3

    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        """Follow `log` with `store`, and see to what its children open."""
        self.store = store
        self.log = log
        self._genesis = genesis
        self._site = site
        self._attempts = 0
        self._effort: int | None = None
        self._proof: asyncio.Task[None] | None = None
        self._reached = 0
        self._alone: set[int] = set()
        self._blamed: tuple[int, str, int] = (0, "", 0)
        self._refused: set[int] | None = None
        self.base_refused: ChaosError | None = None
        """Why the last copy was not taken for a base; None when it was. The log then keeps more rows."""

        store.recovery = self

    @property
    def batch_max(self) -> int:
        """One while the rows of a batch that failed are tried each by itself."""
        return 1 if self._alone else BATCH_MAX

    async def plan(self) -> Plan:
        """Let the sealed files be opened, once; else a base. When that fails, the next attempt takes another one.

        Raises Fenced, since what would be set aside is then another's.
        """
        await self.log.demand_owner()
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
        await self._follow(applied, ask)
        if told:
            await self._site.phase("graph.rebuilt", None, self.name)
        self._attempts = 0
        return self._reached

    async def _follow(self, applied: int, ask: Ask) -> None:
        """Apply what the log has after `applied` to a child that serves nobody else yet."""
        self._have(applied)
        while self._reached < self.log.last_csn and (rows := await self.log.after(self._reached)):
            for batch in self._batches(rows):
                told = [to_tell(row) for row in await self._without_refused(batch)]
                try:
                    reply = await ask("apply", {"rows": told, "checked": True})
                except RemoteError as error:
                    await self._note_failure(batch, error if blames_the_statement(error) else None)
                    raise
                if reply["outcome"] == "gap":
                    raise StoreUnavailable(self.name, f"rows after csn={self._reached} are missing")
                self._have(batch[-1].csn)

    def _batches(self, rows: Sequence[RedoRow]) -> Iterator[list[RedoRow]]:
        """Yield rows that go together: those of a batch that failed each alone, however many there are before them.

        A graph is made again after most errors, so all that came before the failed batch is applied once more too.
        What deletes is alone under kuzu, which forgets to delete what the same transaction has created.
        """
        together: list[RedoRow] = []
        for row in rows:
            deletes = self.store.engine == "kuzu" and any(_DELETES.search(text) for text, _ in row.writes.graph)
            if row.csn not in self._alone and not deletes:
                together.append(row)
                continue
            if together:
                yield together
            yield [row]
            together = []
        if together:
            yield together

    def _have(self, csn: int) -> None:
        """Note that the store has everything up to `csn`."""
        self._reached = csn
        self._alone = {one for one in self._alone if one > csn}

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

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Run all the statements and their marks in as few transactions as may be; now and then make a base."""
        for batch in self._batches(rows):
            try:
                outcome = await self.store.apply_all(await self._without_refused(batch), checked=self.checked)
            except StoreError as error:
                await self._note_failure(batch, error if isinstance(error, GraphRejected) else None)
                raise
            if outcome == "gap":
                return False
            self._have(batch[-1].csn)
            self._note_effort(batch, alone=len(batch) == 1 < len(rows))
        await self._make_base_if_due(rows[-1].csn)
        return True

    async def _without_refused(self, rows: Sequence[RedoRow]) -> list[Told]:
        """Return `rows` as the store wants them, without the parts that it will never take."""
        if self._refused is None:
            self._refused = set(await self.log.refusals(self.name))
        refused = self._refused
        return [(row.csn, row.previous, row.token, () if row.csn in refused else row.writes.graph) for row in rows]

    async def _note_failure(self, rows: Sequence[RedoRow], blame: Exception | None) -> None:
        """Let the rows be sent one by one. One that was refused alone, often enough and in these words, is given up."""
        self._alone.update(row.csn for row in rows)
        if len(rows) > 1 or blame is None:
            return
        csn, text, count = self._blamed
        text_now = str(getattr(blame, "__cause__", None) or blame)
        count = count + 1 if (csn, text) == (rows[0].csn, text_now) else 1
        self._blamed = (rows[0].csn, text_now, count)
        if count >= self.refusals_max and self._refused is not None:
            await self.log.refuse(self.name, rows[0], text_now)
            self._refused.add(rows[0].csn)

    async def close(self) -> None:
        """Close the graph, and note that this went well. Raises StoreError or Fenced."""
        if self._proof is not None:
            self._proof.cancel()
            await asyncio.gather(self._proof, return_exceptions=True)
        seal = await self.store.close()
        if seal is not None:
            await self.log.seal(self.name, seal)

    async def abandon(self) -> None:
        """Kill the engine, which may hold the file that another one wants to open."""
        await self.store.abandon()

    def _note_effort(self, rows: Sequence[RedoRow], *, alone: bool = False) -> None:
        if self._effort is not None:
            self._effort += sum(len(row.writes.graph) for row in rows) + (_ALONE if alone else 0)

    async def _make_base_if_due(self, csn: int) -> None:
        """Copy the database where it stands; that the copy can be read is found out while work goes on."""
        if self._effort is None:  # how many statements it was is not known any more
            self._effort = csn - max(csn for csn, _ in await self._bases())
        if self._effort < self.base_every or (self._proof is not None and not self._proof.done()):
            return
        self._effort = 0  # before trying: one that fails is not tried at each transaction
        keep = [base.file for _, base in await self._bases() if base is not None]
        await self._site.phase("graph.copying", None, self.name)
        try:
            base, census = await self.store.make_base(str(csn), keep)
        except StoreUnavailable as error:  # a reader holds the checkpoint off, or the child has died
            self.base_refused = error
            self._effort = max(0, self.base_every - TRY_AGAIN_AFTER)
            return
        await self._site.phase("graph.copied", None, self.name)
        self._proof = asyncio.create_task(self._prove(csn, base, census))

    async def _prove(self, csn: int, base: Base, census: Mapping[str, int]) -> None:
        try:
            await self.store.prove(base, census)
            await self.log.add_base(self.name, csn, msgspec.json.encode(base).decode(), self._site)
            self.base_refused = None
        except ChaosError as error:
            self.base_refused = error

    async def _bases(self) -> list[tuple[int, Base | None]]:
        found = await self.log.beginnings(self.name)
        return [(csn, None if text is None else msgspec.json.decode(text, type=Base)) for csn, text in found]
