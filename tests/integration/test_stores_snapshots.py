"""Snapshots of SQLite and of the graph: stable while open, several at once, ended however their block is left."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.errors import StoreUnavailable
from chaos.stores.graph import GraphStore
from chaos.stores.sqlite import SQLiteStore

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
MAKE = "CREATE (:Thing {id: $id})"
COUNT = "MATCH (t:Thing) RETURN count(*)"
ENGINES = tuple(pytest.param(name, marks=pytest.mark.requires(name)) for name in ("kuzu", "ladybug"))


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with an empty table t(x)."""
    store = SQLiteStore(tmp_path, readers=1)
    await store.open()
    await put(store, "CREATE TABLE t(x INTEGER PRIMARY KEY)")
    yield store
    await store.close()


@pytest.fixture(params=ENGINES)
async def graph(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[GraphStore]:
    """An open graph with the table Thing and thing 0; `pids` gathers the children."""
    pids: list[int | None] = []
    store = GraphStore(tmp_path, engine=request.param, log=tmp_path / "child.log", on_child=pids.append)
    store.pids = pids  # type: ignore[attr-defined]
    store.open()
    await store.wait_ready(20)
    await store.seed(
        ("CREATE NODE TABLE IF NOT EXISTS Thing(id INT64, name STRING, PRIMARY KEY(id))",), [(MAKE, {"id": 0})]
    )
    yield store
    await store.close()


async def put(store: SQLiteStore, sql: str, *parameters: object) -> None:
    """Run one statement in a transaction of its own."""
    async with store.write() as transaction:
        await transaction.execute(sql, parameters)  # type: ignore[arg-type]
        await transaction.commit()


async def test_sqlite_snapshot_is_stable(sqlite: SQLiteStore) -> None:
    """A snapshot never sees what is committed after it began, even when it has read nothing before."""
    async with sqlite.snapshot() as first:
        await put(sqlite, "INSERT INTO t VALUES (1)")
        async with sqlite.snapshot() as second:
            await put(sqlite, "INSERT INTO t VALUES (2)")
            assert [await s.fetch("SELECT count(*) FROM t") for s in (first, second)] == [[(0,)], [(1,)]]
            assert await sqlite.fetch("SELECT count(*) FROM t") == [(2,)]


async def test_many_sqlite_snapshots_starve_nobody(sqlite: SQLiteStore) -> None:
    """With twenty snapshots open, the single reader still serves and the writer still writes."""

    async def hold(number: int) -> int:
        async with sqlite.snapshot() as snapshot:
            await put(sqlite, "INSERT INTO t VALUES (?)", number)
            [(count,)] = await snapshot.fetch("SELECT count(*) FROM t WHERE x = ?", (number,))
            await gate.wait()
            return int(count)

    gate = asyncio.Barrier(20)
    assert await asyncio.gather(*(hold(number) for number in range(20))) == [0] * 20
    assert await sqlite.fetch("SELECT count(*) FROM t") == [(20,)]


async def test_a_sqlite_snapshot_only_reads(sqlite: SQLiteStore) -> None:
    """A statement that would write is refused, and the snapshot goes on as before."""
    async with sqlite.snapshot() as snapshot:
        with pytest.raises(StoreUnavailable, match="readonly"):
            await snapshot.fetch("INSERT INTO t VALUES (1)")
        await put(sqlite, "INSERT INTO t VALUES (2)")
        assert await snapshot.fetch("SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(StoreUnavailable, match="ended"):
        await snapshot.fetch("SELECT 1")


async def test_a_cancelled_reading_leaves_the_sqlite_snapshot_as_it_was(sqlite: SQLiteStore) -> None:
    """An endless statement is stopped at whichever step it is cancelled, and later ones are not hit by that."""
    async with sqlite.snapshot() as snapshot:
        await put(sqlite, "INSERT INTO t VALUES (1)")
        for steps in range(12):
            task = asyncio.create_task(snapshot.fetch(ENDLESS))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert await snapshot.fetch("SELECT count(*) FROM t") == [(0,)]


async def test_sqlite_snapshots_cancelled_at_every_step_leave_no_transaction(
    sqlite: SQLiteStore, tmp_path: Path
) -> None:
    """However far a snapshot had come, afterwards no reader holds the log: it can be emptied."""

    async def use() -> None:
        async with sqlite.snapshot() as snapshot:
            await snapshot.fetch("SELECT count(*) FROM t")
            await snapshot.fetch(ENDLESS)

    for steps in range(40):
        task = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    await put(sqlite, "INSERT INTO t VALUES (1)")
    async with asyncio.timeout(10):
        await sqlite._snapshots.wait_settled()
    await sqlite.checkpoint("TRUNCATE")
    assert (tmp_path / "main.db-wal").stat().st_size == 0
    async with sqlite.snapshot() as snapshot:
        assert await snapshot.fetch("SELECT count(*) FROM t") == [(1,)]


@pytest.mark.parametrize("reopened", [False, True])
async def test_a_sqlite_snapshot_does_not_outlive_its_store(sqlite: SQLiteStore, reopened: bool) -> None:
    """When the store was closed, or closed and opened again, the snapshot says so, and leaving it works."""
    async with sqlite.snapshot() as snapshot:
        await (sqlite.reopen() if reopened else sqlite.close())
        with pytest.raises(StoreUnavailable):
            await snapshot.fetch("SELECT 1")
    if not reopened:
        with pytest.raises(StoreUnavailable):
            async with sqlite.snapshot():
                pass


async def test_graph_snapshots_are_stable_and_several(graph: GraphStore) -> None:
    """Each snapshot keeps its own moment, whatever is applied meanwhile, and single readings see the newest."""
    async with graph.snapshot() as first:
        assert await graph.apply(1, 0, "a", [(MAKE, {"id": 1})]) == "applied"
        async with graph.snapshot() as second:
            assert await graph.apply(2, 1, "b", [(MAKE, {"id": 2})]) == "applied"
            assert [await s.query(COUNT) for s in (first, second)] == [[[1]], [[2]]]
            assert await graph.query(COUNT) == [[3]]
            assert [await s.query(COUNT) for s in (first, second)] == [[[1]], [[2]]]
    assert await graph.query(COUNT) == [[3]]


async def test_a_refused_statement_leaves_the_graph_snapshot(graph: GraphStore) -> None:
    """What would write, end the transaction or lacks a parameter is never run, and the snapshot goes on."""
    async with graph.snapshot() as snapshot:
        await graph.apply(1, 0, "a", [(MAKE, {"id": 1})])
        for cypher in ("CREATE (:Thing {id: 9})", "commit", "MATCH (t:Thing) WHERE t.id = $id RETURN t.id"):
            with pytest.raises(StoreUnavailable):
                await snapshot.query(cypher)
        assert await snapshot.query(COUNT) == [[1]]
        assert await snapshot.query("RETURN 'create' AS `set` // merge") == [["create"]]


async def test_a_failed_statement_ends_the_graph_snapshot(graph: GraphStore) -> None:
    """After an engine's error the transaction is silently gone, so nothing more is read in it."""
    assert graph.state is not None
    async with graph.snapshot() as snapshot:
        await graph.apply(1, 0, "a", [(MAKE, {"id": 1})])
        with pytest.raises(StoreUnavailable, match="Nothing"):
            await snapshot.query("MATCH (n:Nothing) RETURN n")
        with pytest.raises(StoreUnavailable, match="gone"):
            await snapshot.query(COUNT)
    async with graph.snapshot() as snapshot:
        assert await snapshot.query(COUNT) == [[2]]
    assert graph.state.generation == 1


async def test_a_graph_snapshot_tells_of_its_childs_death(graph: GraphStore) -> None:
    """When the child was killed the snapshot raises, also once the next child serves, and a new one works."""
    async with graph.snapshot() as snapshot:
        await graph.apply(1, 0, "a", [(MAKE, {"id": 1})])
        os.kill(graph.pids[-1], signal.SIGKILL)  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailable):
            await snapshot.query(COUNT)
        async with asyncio.timeout(20):
            while graph.state is None or graph.state.generation == 1:
                await asyncio.sleep(0.001)
        with pytest.raises(StoreUnavailable):
            await snapshot.query(COUNT)
    async with graph.snapshot() as snapshot:
        assert await snapshot.query(COUNT) == [[2]]


async def test_graph_snapshots_cancelled_at_every_step_are_ended(graph: GraphStore) -> None:
    """However far a snapshot had come, afterwards none is open: the engine that needs to be alone can checkpoint."""

    async def use() -> None:
        async with graph.snapshot() as snapshot:
            await snapshot.query(COUNT)
            await asyncio.Event().wait()

    for steps in range(40):
        task = asyncio.create_task(use())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    async with asyncio.timeout(10):
        await graph._readers._snapshots.wait_settled()
    assert await graph.checkpoint()
    async with graph.snapshot() as snapshot:
        assert await snapshot.query(COUNT) == [[1]]


async def test_a_checkpoint_waits_for_no_snapshot(graph: GraphStore) -> None:
    """With a snapshot open a checkpoint is made, or put off after a moment; no engine stalls, and the snapshot is kept."""
    async with graph.snapshot() as snapshot:
        await graph.apply(1, 0, "a", [(MAKE, {"id": 1})])
        async with asyncio.timeout(1.5):
            await graph.checkpoint()
        assert await snapshot.query(COUNT) == [[1]]
    assert await graph.checkpoint()


async def test_checkpoints_come_through_many_short_snapshots(graph: GraphStore) -> None:
    """With eight users whose snapshots always overlap, most checkpoints are made: new ones are held back for it."""
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            async with graph.snapshot() as snapshot:
                assert await snapshot.query(COUNT) == [[1]]

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(read())
        made = [await graph.checkpoint() for _ in range(10)]
        done.set()
    assert sum(made) >= 5


async def test_graph_readings_run_beside_a_writer(graph: GraphStore) -> None:
    """Under fifty users with snapshots, single readings and a writer, each snapshot sees one count, and none fails."""
    done = asyncio.Event()

    async def write() -> None:
        for number in range(1, 101):
            assert await graph.apply(number, number - 1, str(number), [(MAKE, {"id": number})]) == "applied"
        done.set()

    async def read() -> None:
        while not done.is_set():
            async with graph.snapshot() as snapshot:
                first = await snapshot.query(COUNT)
                assert (await graph.query(COUNT))[0][0] >= first[0][0]
                assert await snapshot.query(COUNT) == first

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(read())
        group.create_task(write())
    assert graph.state is not None
    assert graph.state.generation == 1


async def test_many_different_readings_do_not_fill_the_buffer_pool(graph: GraphStore) -> None:
    """An engine may keep the memory of each statement it has run; when none is left it is set free, and asked again."""
    for number in range(90):
        cypher = f"MATCH (t:Thing) WHERE t.id >= $id RETURN t.id % {number + 2}, count(*)"
        assert await graph.query(cypher, {"id": 0}) == [[0, 1]]
    assert graph.state is not None
    assert graph.state.generation == 1
