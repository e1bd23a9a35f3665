"""The pools of the real stores under many users at once, some of whom leave in the middle of everything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from chaos.backends.redis_server import RedisServer, find_server
from chaos.errors import StoreError
from chaos.stores.graph import GraphStore
from chaos.stores.pool_model import PoolReport, PoolSettings
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
USERS = (100, 300, pytest.param(1000, marks=pytest.mark.deep))
POLICIES = ("lifo", "round-robin", "least-used")
Ask = Callable[[int], Awaitable[int]]


def settings(users: int, **changes: object) -> PoolSettings:
    """Return those of a pool that is much too small for so many users, each with a policy of its own."""
    policy = POLICIES[(users // 100) % 3]
    return PoolSettings(**{"min_size": 2, "max_size": 10, "acquire_timeout_s": 60, "policy": policy, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def sqlite(folder: Path, users: int) -> AsyncIterator[tuple[SQLiteStore, Ask, Ask]]:
    """SQLite, what a user asks, and what a user asks who does not wait for the answer."""
    store = SQLiteStore(folder, pool=settings(users))
    await store.open()

    async def ask(number: int) -> int:
        if number % 7 == 0:
            async with store.snapshot() as snapshot:
                return int((await snapshot.fetch("SELECT ?", (number,)))[0][0])
        return int((await store.fetch("SELECT ?", (number,)))[0][0])

    async def endless(number: int) -> int:
        return int((await store.fetch(ENDLESS))[0][0])

    yield store, ask, endless
    await store.close()


@asynccontextmanager
async def redis(folder: Path, users: int) -> AsyncIterator[tuple[RedisStore, Ask, Ask]]:
    """Redis; the same."""
    (folder / "redis").mkdir()
    server = RedisServer(find_server(), folder / "redis", folder / "redis.log")
    await server.start()
    store = RedisStore("127.0.0.1", server.port, timeout_s=20, pool=settings(users, reserved=2))
    commit_path = store.commit_path()

    async def ask(number: int) -> int:
        client = commit_path if number % 11 == 0 else store
        return int(await client.execute("ECHO", number))

    async def blocked(number: int) -> int:
        return int(await store.execute("BLPOP", "never", "5") or 0)

    yield store, ask, blocked
    await store.close()
    await server.stop()


def graph_with(engine: str) -> Callable[[Path, int], object]:
    """Return the maker of a graph store with `engine`."""

    @asynccontextmanager
    async def graph(folder: Path, users: int) -> AsyncIterator[tuple[GraphStore, Ask, Ask]]:
        store = GraphStore(folder, engine=engine, log=folder / "log", pool=settings(users), call_timeout_s=30)
        store.open()
        await store.wait_ready(20)

        async def ask(number: int) -> int:
            if number % 7 == 0:
                async with store.snapshot() as snapshot:
                    return int((await snapshot.query("RETURN $n", {"n": number}))[0][0])
            return int((await store.query("RETURN $n", {"n": number}))[0][0])

        async def long(number: int) -> int:
            return int((await store.query("UNWIND range(1, 20000) AS x RETURN count(x)"))[0][0])

        yield store, ask, long
        await store.close()

    return graph


KINDS = (
    pytest.param(sqlite, id="sqlite"),
    pytest.param(redis, id="redis", marks=pytest.mark.requires("redis")),
    pytest.param(graph_with("kuzu"), id="kuzu", marks=pytest.mark.requires("kuzu")),
    pytest.param(graph_with("ladybug"), id="ladybug", marks=pytest.mark.requires("ladybug")),
)


@pytest.mark.parametrize("users", USERS)
@pytest.mark.parametrize("kind", KINDS)
async def test_many_users_share_a_small_pool(tmp_path: Path, kind: Callable[..., object], users: int) -> None:
    """Everybody who waits gets its own answer; nobody's departure costs a connection, or leaves one unfit."""
    async with kind(tmp_path, users) as (store, ask, long):  # type: ignore[attr-defined]

        async def use(number: int) -> None:
            random = Random(number)
            for turn in range(3):
                question = number * 10 + turn
                if random.random() < 0.3:
                    task = asyncio.create_task(random.choice((ask, long))(question))
                    for _ in range(random.randrange(20)):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait({task})
                assert await ask(question) == question

        async with asyncio.TaskGroup() as group:
            for number in range(users):
                group.create_task(use(number))
        async with asyncio.timeout(30):
            while any(report.in_use or report.moving for report in store.pools()):
                await asyncio.sleep(0.001)
        for report in store.pools():
            judge(report, users)


def judge(report: PoolReport, users: int) -> None:
    """What must hold of each pool once everybody has gone."""
    stats = report.stats
    assert (report.in_use, report.waiting, report.size) == (0, 0, report.idle)
    assert stats.created - stats.discarded == report.size
    assert stats.timeouts == 0
    if not report.name.endswith("snapshots"):
        assert stats.peak_in_use == stats.peak_size == 10
        assert stats.waits >= users // 2
        assert stats.lent >= 3 * users - 3 * users // 7 - 3
        assert stats.reused > stats.lent // 2


@pytest.mark.requires("redis")
async def test_readers_cannot_starve_the_commit_path(tmp_path: Path) -> None:
    """With every common connection blocked and a queue behind them, a reserved one answers at once."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    await server.start()
    store = RedisStore(
        "127.0.0.1", server.port, timeout_s=10, pool=PoolSettings(max_size=4, reserved=1, acquire_timeout_s=20)
    )
    try:
        blocked = [asyncio.create_task(store.execute("BLPOP", "never", "0")) for _ in range(8)]
        async with asyncio.timeout(5):
            while store.pools()[0].in_use < 3:
                await asyncio.sleep(0.001)
            assert await store.commit_path().execute("PING") == "PONG"
        [report] = store.pools()
        assert (report.in_use, report.waiting, report.stats.peak_in_use) == (3, 5, 4)
        for task in blocked:
            task.cancel()
        await asyncio.wait(blocked)
    finally:
        await store.close()
        await server.stop()


@pytest.mark.requires("redis")
async def test_a_stopped_server_fails_those_who_wait_and_no_others(tmp_path: Path) -> None:
    """When no connection can be made each request is told why at once; afterwards the pool serves as before."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    await server.start()
    store = RedisStore("127.0.0.1", server.port, pool=PoolSettings(max_size=3, acquire_timeout_s=30))
    try:
        assert await store.execute("PING") == "PONG"
        await server.stop()
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(store.execute("PING") for _ in range(50)), return_exceptions=True)
        assert all(isinstance(answer, StoreError) for answer in answers)
        await server.start()
        assert await asyncio.gather(*(store.execute("ECHO", n) for n in range(50))) == [str(n) for n in range(50)]
    finally:
        await store.close()
        await server.stop()


async def test_idle_readers_are_reaped_down_to_the_smallest_size(tmp_path: Path) -> None:
    """Connections made in a rush are closed when they have been idle for long, and so are their threads."""
    before = threading.active_count()
    store = SQLiteStore(tmp_path, pool=PoolSettings(min_size=1, max_size=6, growth=6, idle_timeout_s=0.1))
    await store.open()
    try:
        await asyncio.gather(*(store.fetch("SELECT 1") for _ in range(30)))
        assert store.pools()[0].stats.peak_size == 6
        async with asyncio.timeout(10):
            while store.pools()[0].size > 1 or threading.active_count() > before + 2:
                await asyncio.sleep(0.01)
        assert await store.fetch("SELECT 1") == [(1,)]
    finally:
        await store.close()
