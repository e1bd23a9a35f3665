from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from chaos.errors import HarnessError, StoreInDoubt, StoreUnavailable
from chaos.metrics.resources import resident_bytes
from chaos.stores.graph import GraphStore

SCHEMA = ("CREATE NODE TABLE IF NOT EXISTS Thing(id INT64, PRIMARY KEY(id))",)
MAKE = "CREATE (:Thing {id: $id})"
Maker = Callable[..., GraphStore]


ENGINES = tuple(pytest.param(name, marks=pytest.mark.requires(name)) for name in ("kuzu", "ladybug"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that is installed."""
    name: str = request.param
    return name


@pytest.fixture
async def make(tmp_path: Path, engine: str) -> AsyncIterator[Maker]:
    """Makes stores on one file; all are closed in the end. `pids` on the store gathers what on_child told."""
    made: list[GraphStore] = []

    def maker(**options: object) -> GraphStore:
        pids: list[int | None] = []
        store = GraphStore(tmp_path, engine=engine, log=tmp_path / "child.log", on_child=pids.append, **options)  # type: ignore[arg-type]
        store.pids = pids  # type: ignore[attr-defined]
        made.append(store)
        return store

    yield maker
    for store in made:
        await store.close()


@pytest.fixture
async def store(make: Maker) -> GraphStore:
    """An open store with the table Thing and thing 0."""
    store = make()
    store.open()
    await store.wait_ready(20)
    await store.seed(SCHEMA, [(MAKE, {"id": 0})])
    return store


async def things(store: GraphStore) -> list[int]:
    """Return the ids in order."""
    return [number for (number,) in await store.query("MATCH (t:Thing) RETURN t.id ORDER BY t.id")]


async def test_a_new_database_is_seeded_once(store: GraphStore) -> None:
    """Before the seed nothing is applied; afterwards number 0 is, and the first rows are there."""
    assert store.state is not None
    assert store.state.applied is None
    assert await store.applied() == 0
    assert await things(store) == [0]


async def test_apply_moves_the_number_with_the_rows(store: GraphStore) -> None:
    """A transaction is applied once; asked again it is a no-op; out of order it is refused."""
    assert await store.apply(1, 0, "a", [(MAKE, {"id": 1})]) == "applied"
    assert await store.apply(1, 0, "a", [(MAKE, {"id": 1})]) == "already"
    assert await store.apply(3, 2, "c", [(MAKE, {"id": 3})]) == "gap"
    assert await things(store) == [0, 1]
    assert await store.applied() == 1


async def test_content_survives_a_clean_restart(store: GraphStore, make: Maker) -> None:
    """Closed and opened again, the graph has its rows and knows its number."""
    await store.apply(1, 0, "a", [(MAKE, {"id": 1})])
    await store.close()
    again = make()
    again.open()
    state = await again.wait_ready(20)
    assert (state.applied, state.count) == (1, 2)
    assert await things(again) == [0, 1]


async def test_an_error_inside_a_transaction_leaves_nothing(store: GraphStore) -> None:
    """A failing statement takes the whole transaction with it, and the engine's process is replaced."""
    assert store.state is not None
    generation = store.state.generation
    with pytest.raises(StoreUnavailable):
        await store.apply(1, 0, "a", [(MAKE, {"id": 1}), (MAKE, {"id": 0})])
    assert await things(store) == [0]
    assert store.state.generation > generation
    assert await store.apply(1, 0, "a", [(MAKE, {"id": 1})]) == "applied"


async def test_a_missing_parameter_is_refused(store: GraphStore) -> None:
    """A statement whose parameter is not given is refused, where one engine would match every row."""
    with pytest.raises(StoreUnavailable, match="missing"):
        await store.query("MATCH (t:Thing) WHERE t.id = $id RETURN t.id")
    assert await things(store) == [0]


async def test_a_killed_child_is_replaced(store: GraphStore) -> None:
    """After SIGKILL the next request is served by a new process, with everything that was applied."""
    await store.apply(1, 0, "a", [(MAKE, {"id": 1})])
    first = store.pids[-1]  # type: ignore[attr-defined]
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(20):
        while store.state is not None and store.state.generation == 1:
            await asyncio.sleep(0)
    assert await things(store) == [0, 1]
    assert store.pids[-1] not in (first, None)  # type: ignore[attr-defined]
    assert store.pids[-2] is None  # type: ignore[attr-defined]


async def test_a_hanging_child_is_killed_by_the_watchdog(make: Maker) -> None:
    """A stopped process costs one timeout: a write is in doubt, a read is unavailable, then all is well."""
    store = make(call_timeout_s=0.6)
    store.open()
    await store.wait_ready(20)
    await store.seed(SCHEMA, [])
    for number, expected in ((1, StoreInDoubt), (2, StoreUnavailable)):
        os.kill(store.pids[-1], signal.SIGSTOP)  # type: ignore[attr-defined]
        began = time.monotonic()
        with pytest.raises(expected):
            await (store.apply(1, 0, "a", []) if number == 1 else things(store))
        assert time.monotonic() - began < 3
        await store.wait_ready(20)
    assert await store.apply(1, 0, "a", [(MAKE, {"id": 1})]) == "applied"


async def test_a_locked_file_is_waited_for(store: GraphStore, make: Maker) -> None:
    """While another process has the file the second waits, and opens it as soon as the first is gone."""
    second = make()
    second.open()
    with pytest.raises(StoreUnavailable, match="not ready"):
        await second.wait_ready(1.0)
    await store.close()
    await second.wait_ready(20)
    assert await things(second) == [0]


async def test_a_cancelled_request_does_no_harm(store: GraphStore) -> None:
    """Requests cancelled at once are served or dropped, and the next one is answered rightly."""
    for number in range(5):
        task = asyncio.create_task(store.query("RETURN $n", {"n": number}))
        await asyncio.sleep(0)
        task.cancel()
    assert await store.query("RETURN $n", {"n": 99}) == [[99]]


async def test_closing_ends_the_child(store: GraphStore) -> None:
    """After close the process is gone and reaped, and requests are refused at once."""
    pid = store.pids[-1]  # type: ignore[attr-defined]
    await store.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(StoreUnavailable):
        await store.query("RETURN 1")


async def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path, engine: str) -> None:
    """When starting the process itself fails, requests are told why, and it goes on once the reason is gone."""
    store = GraphStore(tmp_path, engine=engine, log=tmp_path / "missing" / "child.log")
    store.open()
    try:
        with pytest.raises(StoreUnavailable, match="No such file"):
            await store.wait_ready(0.5)
        (tmp_path / "missing").mkdir()
        assert (await store.wait_ready(20)).applied is None
    finally:
        await store.close()


async def test_too_many_open_files_delay_the_next_child(store: GraphStore) -> None:
    """A killed child is replaced even if there is no descriptor left for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        os.kill(store.pids[-1], signal.SIGKILL)  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            while "Too many open files" not in store._why_not_ready:
                await asyncio.sleep(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (await store.wait_ready(20)).generation == 2
    assert await things(store) == [0]


async def test_the_death_of_the_supervisor_is_told(tmp_path: Path, engine: str) -> None:
    """An unforeseen error in the supervisor reaches those who wait, at once, and leaves no process."""
    pids: list[int] = []

    def on_child(pid: int | None) -> None:
        if pid is not None:
            pids.append(pid)
            raise RuntimeError("planted")

    store = GraphStore(tmp_path, engine=engine, log=tmp_path / "child.log", on_child=on_child)
    store.open()
    try:
        with pytest.raises(HarnessError, match="planted"):
            await store.wait_ready(20)
        with pytest.raises(HarnessError, match="planted"):
            await store.query("RETURN 1")
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
    finally:
        await store.close()


async def test_queries_leave_nothing_behind(store: GraphStore) -> None:
    """A thousand queries with parameters cost the child less than 3 KB each; kuzu keeps 8 KB for each it prepares."""
    pid = store.pids[-1]  # type: ignore[attr-defined]
    query = "MATCH (t:Thing) WHERE t.id = $id RETURN t.id"
    for number in range(200):
        assert await store.query(query, {"id": number % 2}) == ([[0]] if number % 2 == 0 else [])
    before = resident_bytes(pid)
    for number in range(1000):
        await store.query(query, {"id": number})
    after = resident_bytes(pid)
    assert before is not None
    assert after is not None
    assert after - before < 3_000_000


async def test_a_text_may_come_with_parameters_of_other_types(store: GraphStore) -> None:
    """What was prepared for one type is not used for another one."""
    for value in (1, "one", 2**40, 1.5, True, [1, 2], ["a"], {"x": 1}, {"x": "y"}, 2, "two"):
        assert await store.query("RETURN $value", {"value": value}) == [[value]], value
    assert await store.query("RETURN $value IS NULL", {"value": None}) == [[True]]
    assert await store.query("RETURN $value IS NULL", {"value": 0}) == [[False]]
