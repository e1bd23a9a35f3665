"""Caches over SQLite and over the graph: never a stale value, whatever is late; one reading for many that miss."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.backends.redis_server import RedisServer, find_server
from chaos.caches import scripts
from chaos.caches.cache import Cache, CacheSettings, Versioned
from chaos.caches.sources import from_graph, from_sqlite
from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.requires("redis")


class Truth:
    """A source that counts its readings, and can be held after it has read."""

    def __init__(self) -> None:
        self.csn = 1
        self.values: dict[str, str] = {}
        self.reads = 0
        self.has_read = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def __call__(self, name: str) -> Versioned:
        """Read, then perhaps wait: what is returned may be old by then."""
        self.reads += 1
        seen = Versioned(self.csn, self.values.get(name))
        self.has_read.set()
        await self.let_go.wait()
        return seen


class Unchecked(Cache):
    """A cache with a planted bug: a fill does not look at the number that is there."""

    fill_script = scripts.fill_script(checked=False)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A running Redis-compatible server."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[RedisStore]:
    """A client of it."""
    store = RedisStore("127.0.0.1", server.port)
    yield store
    await store.close()


async def slow_fill(cache: Cache, truth: Truth) -> None:
    """Let a reader miss and read, commit and write through a newer value, and only then let the reader fill."""
    truth.values["k"] = "old"
    truth.let_go.clear()
    reader = asyncio.create_task(cache.get("k"))
    await truth.has_read.wait()
    truth.csn, truth.values["k"] = 2, "new"
    await cache.apply(2, {"k": "new"})
    truth.let_go.set()
    assert (await reader).value == "old"  # it had begun before the commit


async def test_a_slow_filler_never_overwrites_a_newer_value(redis: RedisStore) -> None:
    """The stale-fill race: the value that was read before a commit is filled after it, and is ignored."""
    truth = Truth()
    cache = Cache(redis, truth, prefix="c")
    await slow_fill(cache, truth)
    assert await cache.get("k") == Versioned(2, "new")
    assert (cache.stats.older, cache.stats.filled, truth.reads) == (1, 0, 1)


async def test_without_the_check_of_numbers_the_race_is_lost(redis: RedisStore) -> None:
    """The control: the same race leaves the old value in a cache that does not compare, so the test can fail."""
    truth = Truth()
    cache = Unchecked(redis, truth, prefix="c")
    await slow_fill(cache, truth)
    assert await cache.get("k") == Versioned(1, "old")


async def test_a_filler_whose_lease_is_over_fills_nothing(redis: RedisStore) -> None:
    """When the newer entry itself has expired nobody knows its number; the filler's lease has ended before."""
    truth = Truth()
    cache = Cache(redis, truth, prefix="c", settings=CacheSettings(ttl_s=0.1, negative_ttl_s=0.1, lease_s=0.05))
    truth.values["k"] = "old"
    truth.let_go.clear()
    reader = asyncio.create_task(cache.get("k"))
    await truth.has_read.wait()
    truth.csn, truth.values["k"] = 2, "new"
    await cache.apply(2, {"k": "new"})
    async with asyncio.timeout(5):
        while await redis.execute("EXISTS", "c:k"):
            await asyncio.sleep(0.005)
    truth.let_go.set()
    await reader
    assert cache.stats.late == 1
    assert (await cache.get("k")).value == "new"


async def test_one_reading_for_all_who_miss_at_once(redis: RedisStore) -> None:
    """Fifty callers of a name that is not cached share one reading of the source, even when the first is cancelled."""
    truth = Truth()
    truth.values["k"] = "v"
    truth.let_go.clear()
    cache = Cache(redis, truth, prefix="c")
    callers = [asyncio.create_task(cache.get("k")) for _ in range(50)]
    await truth.has_read.wait()
    async with asyncio.timeout(5):
        while cache.stats.joined < 49:
            await asyncio.sleep(0.001)
    callers[0].cancel()
    truth.let_go.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [answer for answer in answers if answer != Versioned(1, "v")][1:] == []
    assert truth.reads == 1
    assert (await cache.get("k")).value == "v"
    assert cache.stats.hits == 1


async def test_a_lease_that_was_not_used_is_used_by_a_sibling(redis: RedisStore) -> None:
    """Whoever reads fills, though another caller of the same cache has taken the lease; another cache does not."""
    truth = Truth()
    truth.values["k"] = "v"

    async def broken(name: str) -> Versioned:
        raise LookupError(name)

    cache, other = Cache(redis, truth, prefix="c"), Cache(redis, truth, prefix="c")
    cache._source = broken
    with pytest.raises(LookupError):
        await cache.get("k")
    cache._source = truth
    assert (await other.get("k"), other.stats.filled) == (Versioned(1, "v"), 0)
    assert (await cache.get("k"), cache.stats.filled) == (Versioned(1, "v"), 1)
    assert (await other.get("k"), other.stats.hits) == (Versioned(1, "v"), 1)


async def test_not_there_and_deleted_are_remembered(redis: RedisStore) -> None:
    """A name that does not exist is asked for once; a deletion leaves a tombstone that no older fill replaces."""
    truth = Truth()
    cache = Cache(redis, truth, prefix="c")
    assert [(await cache.get("none")).value for _ in range(3)] == [None] * 3
    assert (truth.reads, cache.stats.negative_hits) == (1, 2)
    await cache.apply(5, {"gone": None, "none": "now"})
    assert (await cache.get("gone"), await cache.get("none")) == (Versioned(5, None), Versioned(5, "now"))
    assert await cache.apply(4, {"gone": "older", "none": None}) == 2
    assert (await cache.get("gone")).value is None
    assert truth.reads == 1


async def test_a_caller_sees_its_own_commit(redis: RedisStore) -> None:
    """Who demands commit 7 is not given what a cache at commit 5 has; once that is at 7, it is."""
    truth = Truth()
    cache = Cache(redis, truth, prefix="c")
    await cache.apply(5, {"k": "five"})
    truth.csn, truth.values["k"] = 7, "seven"
    assert await cache.get("k", at_least=7) == Versioned(7, "seven")
    assert (await cache.get("k")).value == "five"
    await cache.apply(7, {"k": "seven"})
    await cache.apply(8, {})
    assert await cache.get("k", at_least=8) == Versioned(7, "seven")
    assert truth.reads == 1


async def test_a_dead_server_costs_no_truth(redis: RedisStore, server: RedisServer) -> None:
    """Without Redis each reading goes to the source; after its restart the cache works again."""
    truth = Truth()
    truth.values["k"] = "v"
    cache = Cache(redis, truth, prefix="c")
    await cache.get("k")
    await server.stop()
    assert (await cache.get("k")).value == "v"
    assert truth.reads == 2
    await server.start()
    await cache.get("k")
    hits = cache.stats.hits
    assert (await cache.get("k")).value == "v"
    assert cache.stats.hits == hits + 1


async def test_the_lag_of_each_commit_is_measured(redis: RedisStore) -> None:
    """From the moment told to the moment when the cache has it, on the same clock."""
    cache = Cache(redis, Truth(), prefix="c")
    for number in range(2, 12):
        await cache.apply(number, {"k": str(number)}, committed_s=time.monotonic() - 0.01)
    assert len(cache.sync_lag_s) == 10
    assert all(0.01 <= lag < 5 for lag in cache.sync_lag_s)


async def test_over_sqlite(redis: RedisStore, tmp_path: Path) -> None:
    """A row of SQLite is read with the newest commit of the same snapshot."""
    store = SQLiteStore(tmp_path)
    await store.open()
    try:
        async with store.write() as transaction:
            await transaction.execute("CREATE TABLE commits(csn INTEGER PRIMARY KEY, token TEXT)")
            await transaction.execute("CREATE TABLE users(id TEXT PRIMARY KEY, name TEXT)")
            await transaction.execute("INSERT INTO commits VALUES (3, 't')")
            await transaction.execute("INSERT INTO users VALUES ('7', 'Ada')")
            await transaction.commit()
        cache = Cache(redis, from_sqlite(store, "SELECT id, name FROM users WHERE id = ?"), prefix="users")
        for _ in range(2):
            found = await cache.get("7")
            assert (found.csn, json.loads(found.value or "")) == (3, ["7", "Ada"])
        assert (await cache.get("8")).value is None
        assert (cache.stats.hits, cache.stats.misses) == (1, 2)
    finally:
        await store.close()


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.requires(name)) for name in ("kuzu", "ladybug")]
)
async def test_over_the_graph(redis: RedisStore, tmp_path: Path, engine: str) -> None:
    """An answer of the graph is read with the newest transaction that the same snapshot has."""
    store = GraphStore(tmp_path, engine=engine, log=tmp_path / "log")
    store.open()
    try:
        await store.wait_ready(20)
        await store.seed(("CREATE NODE TABLE IF NOT EXISTS Thing(id STRING, PRIMARY KEY(id))",), [])
        await store.apply(1, 0, "a", [("CREATE (:Thing {id: $id})", {"id": "x"})])
        cache = Cache(redis, from_graph(store, "MATCH (t:Thing {id: $name}) RETURN t.id"), prefix="things")
        assert await cache.get("x") == Versioned(1, '["x"]')
        assert await cache.get("y") == Versioned(1, None)
        assert await cache.get("x") == Versioned(1, '["x"]')
        assert cache.stats.hits == 1
    finally:
        await store.close()


def test_times_that_reopen_the_race_are_refused() -> None:
    """A lease must end well before an entry does."""
    with pytest.raises(ValueError, match="lease_s=40"):
        CacheSettings(lease_s=40)
