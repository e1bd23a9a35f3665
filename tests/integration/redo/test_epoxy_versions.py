"""Versions in Redis: what a reader sees, what is taken back, what is collected."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chaos.stores.redis import RedisStore, Script
from chaos.transactions import redis_versions
from chaos.transactions.secondaries import APPLIED_KEY
from chaos.transactions.system import Committed

from .conftest import Place, until
from .test_epoxy import told
from .test_redo_recover import Gates

pytestmark = [pytest.mark.requires("redis"), pytest.mark.parametrize("arm", ["epoxy"], indirect=True)]
only_kuzu = pytest.mark.parametrize("engine", ["kuzu"], indirect=True)


async def test_readers_do_not_see_what_is_shipped_and_not_committed(place: Place) -> None:
    """While a batch stands before its COMMIT, its values are in Redis, and no reader gets them."""
    await place.set_up()
    gates = Gates("sqlite.committing")
    system = await place.open(hook=gates.hook)
    writing = asyncio.create_task(system.transact(place.request("t0", source=0, target=1, amount=5, mark="0>1:5")))
    await gates.came(1)
    assert await system._stores.redis.execute("GET", "balance:0") == "995"
    async with system._coordinator.transaction(read_only=True) as txn:
        assert await txn.redis.get("balance:0") == "1000"
        assert await txn.redis.read("EXISTS", "marks") == 0
        assert "marks" not in await txn.redis.keys("")
        assert await txn.sqlite.fetch("SELECT balance FROM accounts WHERE id = 0") == [(1000,)]
    querying = asyncio.create_task(_edges(system))
    gates.gates[0].set()
    assert isinstance(await writing, Committed)
    assert await querying in (0, 1)
    assert await _edges(system) == 1
    async with system._coordinator.transaction(read_only=True) as txn:
        assert await txn.redis.get("balance:0") == "995"


async def _edges(system: Any) -> int:
    """Count the edges that a transaction sees; they must agree with SQLite's rows."""
    async with system._coordinator.transaction(read_only=True) as txn:
        [[found]] = await txn.graph.query("MATCH (:Account)-[s:SENT]->(:Account) RETURN count(*)")
        assert await txn.sqlite.fetch("SELECT count(*) FROM transfers") == [(found,)]
    return int(found)


@only_kuzu
async def test_without_versions_a_reader_sees_the_uncommitted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: whoever reads the newest version reads what may never be committed."""
    blind = redis_versions.READ.text.replace("local kept, dump = at(key)", "local kept, dump")
    monkeypatch.setattr(redis_versions, "READ", Script(blind))
    await place.set_up()
    gates = Gates("sqlite.committing")
    system = await place.open(hook=gates.hook)
    writing = asyncio.create_task(system.transact(place.request("t0", source=0, target=1, amount=5, mark="0>1:5")))
    await gates.came(1)
    async with system._coordinator.transaction(read_only=True) as txn:
        assert await txn.redis.get("balance:0") == "995"
    gates.gates[0].set()
    await writing


async def _versions(store: RedisStore, key: str) -> list[tuple[int, int]]:
    """Return begin and end of each older version of a key, the oldest first."""
    members = await store.execute("EVAL", _CHAIN, 1, f"chaos:~old:{key}")
    return [(int(begin), int(end)) for begin, end in (member.split() for member in members)]


_CHAIN = """
local found = {}
for _, version in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  found[#found + 1] = string.match(version, '^%d+ %d+')
end
return found
"""


@only_kuzu
async def test_versions_adjoin_are_read_as_of_their_time_and_go_in_the_end(place: Place) -> None:
    """A reader keeps its state through writes, deletions and other types; what nobody reads is collected."""
    await place.set_up()
    system = await place.open()
    coordinator, store = system._coordinator, system._stores.redis

    async def write(*commands: tuple[Any, ...]) -> None:
        async with coordinator.transaction() as txn:
            for command in commands:
                txn.redis.command(*command)

    await write(("SET", "k", "one", "PX", 90_000_000), ("RPUSH", "list", "a", "b"))
    async with coordinator.transaction(read_only=True) as old:
        assert await old.redis.get("k") == "one"
        await write(("SET", "k", "two"), ("DEL", "list", "limits:0"))
        await write(("SET", "k", "three"))
        async with coordinator.transaction(read_only=True) as middle:
            assert await middle.redis.get("k") == "three"
            await write(("DEL", "k"), ("SADD", "list", "x"), ("SET", "k", "four"))
            chain = await _versions(store, "k")
            assert [begin for begin, _ in chain[1:]] == [end for _, end in chain[:-1]]
            assert [end for _, end in chain] == [2, 3, 4]
            assert await middle.redis.get("k") == "three"
            assert await middle.redis.read("LRANGE", "list", 0, -1) == []
            assert await old.redis.read("LRANGE", "list", 0, -1) == ["a", "b"]
            assert await old.redis.get("k") == "one"
            assert {"k", "list", "limits:0"} <= await old.redis.keys("")
            assert {"list", "limits:0"} & await middle.redis.keys("") == set()
    await write(("SET", "other", 1))
    await write(("SET", "other", 2))
    await write(("SET", "third", 1))
    assert await _versions(store, "k") == []
    assert await store.execute("ZRANGE", "chaos:~newest", 0, -1) == ["third"]


@only_kuzu
async def test_taking_back_restores_types_deletions_and_deadlines(place: Place) -> None:
    """A batch that Redis had and SQLite did not commit leaves every key as it was, its time to live too."""
    await place.set_up()
    system = await place.open()
    coordinator, store = system._coordinator, system._stores.redis
    async with coordinator.transaction() as txn:
        txn.redis.command("SET", "passing", "x", "PX", 90_000_000)
        txn.redis.command("ZADD", "z", 1, "one")
    async with coordinator.transaction() as txn:
        txn.redis.command("DEL", "passing", "z")
        txn.redis.command("SADD", "passing", "y")
        txn.redis.command("SET", "new", 1)
    log = coordinator._log
    async with system._stores.sqlite.write() as transaction:
        for table in ("commits", "redo"):
            await transaction.execute(f"DELETE FROM {table} WHERE csn = 2")
        await transaction.commit()
    redis = coordinator._appliers[0]
    redis.secondary._settled = False
    redis._doubt()

    async def settled() -> bool:
        return bool(redis.has(1) and redis.applied == 1)

    await until(settled)
    assert log.last_csn == 1
    assert await store.execute("GET", "passing") == "x"
    assert 80_000_000 < await store.execute("PTTL", "passing") <= 90_000_000
    assert await store.execute("ZRANGE", "z", 0, -1) == ["one"]
    assert await store.execute("EXISTS", "new") == 0
    assert await store.execute("GET", APPLIED_KEY) == "1"


@only_kuzu
async def test_what_was_collected_cannot_be_taken_back_and_is_made_again(place: Place) -> None:
    """A log that lost its end goes back further than the versions do; then Redis is filled from it."""
    await place.set_up()
    system = await place.open()
    store = system._stores.redis
    for value in range(1, 6):
        async with system._coordinator.transaction() as txn:
            txn.redis.command("SET", "k", value)
    async with system._stores.sqlite.write() as transaction:
        for table in ("commits", "redo"):
            await transaction.execute(f"DELETE FROM {table} WHERE csn > 2")
        await transaction.commit()
    redis = system._coordinator._appliers[0]
    redis.secondary._settled = False
    redis._doubt()

    async def settled() -> bool:
        return bool(redis.has(2) and redis.applied == 2)

    await until(settled)
    assert await store.execute("GET", "k") == "2"
    assert told(system, "redis.rebuil") == ["redis.rebuilding", "redis.rebuilt"]
