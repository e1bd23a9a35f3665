from __future__ import annotations

from typing import Any

import pytest

from chaos._channel import RemoteError
from chaos.errors import StoreUnavailable
from chaos.transactions.graph_secondary import GraphSecondary
from chaos.transactions.rows import RedoRow, WriteSet
from chaos.transactions.secondaries import BATCH_MAX


class Log:
    """A commit log in memory, of rows that write nothing, or one thing."""

    def __init__(self, count: int, writes: dict[int, str] | None = None) -> None:
        self.last_csn = count
        self._writes = writes or {}

    async def after(self, csn: int) -> list[RedoRow]:
        """Return some rows, as many as the log gives at once."""
        numbers = range(csn + 1, min(self.last_csn, csn + BATCH_MAX) + 1)
        return [RedoRow(csn=n, previous=n - 1, token=f"t{n}", writes=self._written(n)) for n in numbers]

    def _written(self, number: int) -> WriteSet:
        return WriteSet(redis=[], graph=[(self._writes[number], {})] if number in self._writes else [])

    async def refusals(self, store: str) -> dict[int, tuple[str, str]]:
        """Nothing was refused."""
        return {}


class Store:
    """Knows nothing but who sees to its recovery, and what it is."""

    recovery: Any = None
    engine = "ladybug"


class Child:
    """A child that is filled; it dies of the batch in which `poison` comes with others."""

    def __init__(self, poison: int) -> None:
        self.poison = poison
        self.sizes: list[int] = []

    async def ask(self, op: str, arguments: Any) -> dict[str, Any]:
        """Apply, and note how many rows came together."""
        numbers = [row["csn"] for row in arguments["rows"]]
        if self.poison in numbers and len(numbers) > 1:
            raise RemoteError("RuntimeError", "the disk")
        self.sizes.append(len(numbers))
        return {"outcome": "applied"}


async def test_after_an_error_only_the_rows_of_its_batch_are_applied_one_by_one() -> None:
    """What the graph is made again from before them goes in batches, or a recovery would take as long as the log is."""
    log: Any = Log(10 * BATCH_MAX)
    store: Any = Store()
    site: Any = None
    secondary = GraphSecondary(store, site, log, site)
    assert store.recovery is secondary
    child = Child(poison=8 * BATCH_MAX)
    with pytest.raises(RemoteError):
        await secondary._follow(0, child.ask)
    assert child.sizes == [BATCH_MAX] * 7
    assert secondary.batch_max == 1
    again = Child(poison=8 * BATCH_MAX)
    await secondary._follow(0, again.ask)
    assert again.sizes == [BATCH_MAX] * 7 + [1] * BATCH_MAX + [BATCH_MAX] * 2
    assert secondary.batch_max == BATCH_MAX


async def test_rows_that_a_base_holds_are_not_waited_for() -> None:
    """A child that begins after the rows of the failed batch has them, and takes batches at once."""
    log: Any = Log(4 * BATCH_MAX)
    store: Any = Store()
    site: Any = None
    secondary = GraphSecondary(store, site, log, site)
    with pytest.raises(RemoteError):
        await secondary._follow(0, Child(poison=1).ask)
    later = Child(poison=0)
    await secondary._follow(2 * BATCH_MAX, later.ask)
    assert later.sizes == [BATCH_MAX] * 2
    with pytest.raises(StoreUnavailable, match="are missing"):
        await secondary._follow(0, Gap().ask)


class Gap:
    """A child that lacks something."""

    async def ask(self, op: str, arguments: Any) -> dict[str, Any]:
        """Say so."""
        return {"outcome": "gap"}


@pytest.mark.parametrize(("engine", "sizes"), [("kuzu", [4, 1, 5]), ("ladybug", [10])])
async def test_what_deletes_is_alone_under_kuzu(engine: str, sizes: list[int]) -> None:
    """Kuzu forgets to delete what the same transaction has created; see experiments/findings/kuzu_delete_created.py."""
    log: Any = Log(10, {2: "CREATE (:Deleted {id: 1})", 5: "MATCH (n:Node) DETACH DELETE n"})
    store: Any = Store()
    store.engine = engine
    site: Any = None
    child = Child(poison=0)
    await GraphSecondary(store, site, log, site)._follow(0, child.ask)
    assert child.sizes == sizes
