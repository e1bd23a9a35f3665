"""What a store is made again from, when it is, and when it is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import StoreUnavailable
from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.transactions import redis_base, secondaries
from chaos.transactions.applier import ApplierDied
from chaos.transactions.graph_secondary import GraphSecondary
from chaos.transactions.redo import RedoSystem
from chaos.transactions.secondaries import APPLIED_KEY, RedisSecondary
from chaos.transactions.system import Aborted, Committed, Request

from .conftest import Place, both_arms, converged, faults, until
from .test_redo_crash import die

PLANTED = Path(__file__).parents[2] / "planted" / "systems.py"

pytestmark = pytest.mark.requires("redis")
only_kuzu = pytest.mark.parametrize("engine", ["kuzu"], indirect=True)


async def run(system: Any, place: Place, names: Iterable[int]) -> list[Request]:
    """Commit some transactions, one after the other."""
    requests = [place.request(f"t{number}") for number in names]
    for request in requests:
        assert isinstance(await system.transact(request), Committed)
    return requests


def told(system: Any) -> list[str]:
    """Return the phases of rebuilding that a system has told so far."""
    return [name for name, _ in system.site.phases if "rebuil" in name]


@only_kuzu
async def test_after_a_peaceful_end_nothing_is_made_again(place: Place) -> None:
    """A closed graph and a server that went on are believed by the next process, and nothing is set aside."""
    await place.set_up()
    first = await place.open()
    requests = await run(first, place, range(3))
    await first.close()
    second = await place.open()
    assert faults(await converged(second), requests, {"t0": "committed"}) == []
    assert told(first) == told(second) == []
    assert not list((place.root / "data" / "graph").glob("broken-*"))


async def test_after_a_crash_the_graph_is_made_again_and_redis_is_not(place: Place) -> None:
    """SIGKILL leaves no seal: the graph is set aside, rebuilt and told; the server lived on and is believed."""
    await place.set_up()
    requests = [place.request(f"t{number}") for number in range(6)]
    outcomes: dict[str, Any] = dict(await die(place, "acknowledged", 4, requests))
    system = await place.open()
    outcomes |= await system.recover([request.token for request in requests])
    assert faults(await converged(system), requests, outcomes) == []
    assert told(system) == ["graph.rebuilding", "graph.rebuilt"]
    assert list((place.root / "data" / "graph" / "broken-1").iterdir())


async def _tamper(place: Place) -> None:
    """Take an edge out of the closed graph, and nothing else: the number and all marks stay."""
    graph = GraphStore(place.config.folder("graph"), engine=place.engine, log=place.root / "logs" / "tamper.log")
    graph.open()
    await graph.write([("MATCH ()-[s:SENT]->() WHERE s.token = $token DELETE s", {"token": "t1"})])
    await graph.close()


async def test_data_that_vanished_in_silence_are_found(place: Place) -> None:
    """A graph that opens well and counts right, but lacks an edge, does not bear the seal, and is made again."""
    await place.set_up()
    system = await place.open()
    requests = await run(system, place, range(3))
    await system.close()
    await _tamper(place)
    system = await place.open()
    assert faults(await converged(system), requests, {"t1": "committed"}) == []
    assert told(system) == ["graph.rebuilding", "graph.rebuilt"]


class _Impatient(RedoSystem):
    """Waits a second for an engine that opens a file."""

    class graph_secondary(GraphSecondary):  # noqa: N801  # a seam of RedoSystem
        def __init__(self, store: GraphStore, *others: Any) -> None:
            super().__init__(store, *others)
            store._open_timeout_s = 1.5


async def open_watched(place: Place, system: Any, started: Callable[[int], None]) -> Any:
    """Open and recover; `started` is told the pid of each child that is to open the graph."""
    system.site = place.site()
    system.site.child = lambda _, pid: None if pid is None else started(pid)
    place.opened.append(system)
    await system.open(system.site)
    await system.recover([])
    return system


@only_kuzu
async def test_an_engine_that_hangs_over_its_file_is_given_another(place: Place) -> None:
    """When opening the sealed files never ends, the child is killed and the graph made again from the log."""
    await place.set_up()
    system = await place.open()
    requests = await run(system, place, range(3))
    await system.close()
    pids: list[int] = []

    def stop_the_first(pid: int) -> None:
        pids.append(pid)
        if len(pids) == 1:
            os.kill(pid, signal.SIGSTOP)

    system = await open_watched(place, _Impatient(), stop_the_first)
    assert faults(await converged(system), requests, {"t1": "committed"}) == []
    assert told(system) == ["graph.rebuilding", "graph.rebuilt"]
    assert len(pids) == 2


@only_kuzu
async def test_what_a_new_server_read_from_its_file_is_not_believed(place: Place) -> None:
    """A server that comes back with a wrong value, as holes in its file may cause, is emptied and filled again."""
    await place.set_up()
    system = await place.open()
    requests = await run(system, place, range(3))
    client = RedisStore("127.0.0.1", place.server.port)
    assert place.server.child is not None
    await client.execute("SET", "balance:0", "4711")
    await place.server.child.kill()
    await place.server.start()

    async def filled() -> bool:
        return "redis.rebuilt" in told(system)

    await until(filled)
    await client.close()
    assert faults(await converged(system), requests, {"t1": "committed"}) == []


class _Often(RedoSystem):
    """Makes a base every five transactions."""

    class graph_secondary(GraphSecondary):  # noqa: N801  # a seam of RedoSystem
        base_every = 5

    class redis_secondary(RedisSecondary):  # noqa: N801  # a seam of RedoSystem
        base_every = 5


async def _with_bases(place: Place) -> tuple[list[Request], int]:
    """Commit until rows have been purged; return the requests and the oldest number that the log has."""
    await place.set_up()
    system = await place.open(_Often)
    requests = await run(system, place, range(17))
    log = system._coordinator._log

    async def purged() -> bool:
        nonlocal oldest
        oldest = (await log.after(0))[0].csn
        if oldest == 1:
            requests.extend(await run(system, place, range(len(requests), len(requests) + 5)))
        return bool(oldest > 1)

    oldest = 1
    await until(purged)
    await system.close()
    return requests, oldest


COLLECTION = ("redis.copying", "redis.copied", "graph.copying", "graph.copied", "log.purging", "log.purged")


@both_arms
@only_kuzu
@pytest.mark.parametrize("phase", COLLECTION)
async def test_a_crash_while_bases_are_made_and_rows_are_purged(place: Place, phase: str) -> None:
    """Whoever dies over it takes nothing that is needed along, and the next process makes bases and purges again."""
    place.options = {"system": {"base_every": 5}}
    await place.set_up()
    requests = [place.request(f"t{number}") for number in range(90)]
    outcomes: dict[str, Any] = dict(await die(place, phase, 1, requests))
    system = await place.open()
    outcomes |= await system.recover([request.token for request in requests if request.token not in outcomes])
    assert faults(await converged(system), requests, outcomes) == []

    async def purged() -> bool:
        requests.extend(await run(system, place, range(len(requests), len(requests) + 5)))
        return bool((await system._coordinator._log.after(0))[0].csn > 1)

    await until(purged)
    await system.close()
    await _everything_lost(place)
    assert faults(await converged(await place.open()), requests, outcomes) == []


@only_kuzu
async def test_rows_that_go_before_their_base_is_noted_are_missed(place: Place) -> None:
    """The planted bug: purged in a transaction of its own, the log begins later than any base after a crash."""
    place.options = {"system": {"base_every": 5}}
    await place.set_up()
    requests = [place.request(f"t{number}") for number in range(90)]
    await die(place, "log.purging", 1, requests, f"{PLANTED}:HastyPurge")
    system = await place.open()
    with pytest.raises(StoreUnavailable, match="later than any base"):
        await system._stores.graph.wait_ready(1.0)


async def _everything_lost(place: Place) -> None:
    """Take all that Redis has, and the graph's database, but not its bases."""
    assert place.server.child is not None
    await place.server.child.kill()
    shutil.rmtree(place.root / "data" / "redis")
    for file in (place.root / "data" / "graph").glob("graph.db*"):
        file.unlink()
    await place.server.start()


async def test_stores_are_made_again_from_bases(place: Place) -> None:
    """With the beginning of the log purged, both stores are made from bases and the rest of the log, whole."""
    requests, oldest = await _with_bases(place)
    await _everything_lost(place)
    system = await place.open(_Often)
    outcomes = {request.token: "committed" for request in requests}
    assert faults(await converged(system), requests, outcomes) == []
    assert set(told(system)) == {"graph.rebuilding", "graph.rebuilt", "redis.rebuilding", "redis.rebuilt"}
    assert oldest > 5
    assert faults(await converged(system), requests + await run(system, place, [900]), outcomes) == []


@only_kuzu
@pytest.mark.parametrize("place_in_log", [0, 16384])
async def test_nothing_is_committed_on_a_log_that_has_lost_commits(place: Place, place_in_log: int) -> None:
    """SQLite takes a damaged log for a shorter one; the server, which has more commits, gives the loss away."""
    await place.set_up()
    requests = [place.request(f"t{number}") for number in range(9)]
    assert "committed" in (await die(place, "acknowledged", 6, requests)).values()
    log = place.root / "data" / "sqlite" / "main.db-wal"
    found = bytearray(log.read_bytes())
    found[place_in_log] ^= 0xFF
    log.write_bytes(found)
    with pytest.raises(ApplierDied, match="SQLite's files have lost commits"):
        await place.open()
    outcome = await place.opened[-1].transact(place.request("late"))
    assert isinstance(outcome, Aborted)


@only_kuzu
async def test_a_damaged_base_costs_time_and_not_data(place: Place) -> None:
    """When the newest base is not what it was, the one before it is taken, whose rows are still there."""
    requests, _ = await _with_bases(place)
    await _everything_lost(place)
    with sqlite3.connect(place.root / "data" / "sqlite" / "main.db") as connection:
        [(content,)] = connection.execute("SELECT content FROM bases WHERE store = 'graph' ORDER BY csn DESC LIMIT 1")
    connection.close()
    newest = place.root / "data" / "graph" / json.loads(content)["file"]
    newest.write_bytes(newest.read_bytes()[:-1] + b"!")
    pids: list[int] = []
    system = await open_watched(place, _Often(), pids.append)
    assert faults(await converged(system), requests, {request.token: "committed" for request in requests}) == []
    assert len(pids) == 2, "the damaged one was noticed"


@only_kuzu
@pytest.mark.parametrize(
    "phase",
    [
        "graph.rebuilt",
        *(
            pytest.param(name, marks=pytest.mark.deep)
            for name in ("graph.rebuilding", "redis.rebuilding", "redis.rebuilt")
        ),
    ],
)
async def test_a_crash_while_a_store_is_made_again(place: Place, phase: str) -> None:
    """Whoever dies over the rebuilding leaves nothing that the next one believes."""
    await place.set_up()
    requests = [place.request(f"t{number}") for number in range(6)]
    outcomes: dict[str, Any] = dict(await die(place, "acknowledged", 4, requests))
    await _everything_lost(place)
    await die(place, phase, 1, [])
    system = await place.open()
    outcomes |= await system.recover([request.token for request in requests])
    assert faults(await converged(system), requests, outcomes) == []
    assert "graph.rebuilt" in told(system)


@only_kuzu
async def test_a_base_of_redis_has_keys_of_every_type(place: Place) -> None:
    """The commands of a base make strings, lists, sets, hashes, sorted sets and deadlines again, long ones too."""
    client = RedisStore("127.0.0.1", place.server.port)
    long = [str(number) for number in range(1203)]
    made = (
        ("SET", APPLIED_KEY, 7),
        ("SET", "string", "x y"),
        ("SET", "passing", "z", "PX", 90_000_000),
        ("RPUSH", "list", *long),
        ("SADD", "set", "a", "b"),
        ("HSET", "hash", *long, "odd"),
        ("ZADD", "zset", "1.5", "one", "-3", "two"),
    )
    for command in made:
        await client.execute(*command)
    number, commands = await redis_base.dump(client, APPLIED_KEY)
    digest = await _digest(client)
    await client.execute("SET", "other", 1)
    await client.execute("SET", "chaos:owner", "whoever lends the database")
    await client.evaluate(redis_base.EMPTY, ("k",), ("1",))
    assert set(await client.execute("KEYS", "*")) == {"chaos:owner", "chaos:~filling"}
    for part, _ in redis_base.parts(commands):
        await client.evaluate(redis_base.PART, ("k",), (redis_base.json.dumps(part), "1"))
    assert number == 7
    assert await _digest(client) == digest
    assert 80_000_000 < await client.execute("PTTL", "passing") <= 90_000_000
    assert await client.execute("EXISTS", "other") == 0
    await client.execute("XADD", "stream", "*", "a", "b")
    await client.execute("SET", APPLIED_KEY, 7)
    with pytest.raises(Exception, match="stream"):
        await redis_base.dump(client, APPLIED_KEY)
    await client.close()


async def test_what_an_earlier_filling_has_sent_comes_too_late(place: Place) -> None:
    """Each step of a filling that arrives when a later one has begun changes nothing, in that one or after it."""
    await place.set_up()
    system = await place.open()
    redis = system._coordinator._appliers[0].secondary
    store = redis.store
    outcome = await system.transact(place.request("t0"))
    assert isinstance(outcome, Committed)
    order = str(system._coordinator._log.epoch * 1_000_000)
    late: list[tuple[Any, tuple[str, ...]]] = [
        (redis_base.EMPTY, (str(int(order) - 1_000_000),)),
        (redis_base.PART, ('[["SET", "balance:0", "-1"]]', order)),
        (secondaries._LAST_PART, ('[["0", "0", "first-rows", [["SET", "balance:0", "-1"]]]]', "[]", order)),
    ]
    before = await store.execute("GET", "balance:0")
    assert [await store.evaluate(script, (APPLIED_KEY, "r"), arguments) for script, arguments in late] == ["late"] * 3
    assert await store.execute("GET", "balance:0") == before
    assert await store.execute("GET", APPLIED_KEY) == str(outcome.csn)


async def _digest(client: RedisStore) -> list[Any]:
    """Return what each key of the test holds."""
    return [
        await client.execute("GET", "string"),
        await client.execute("GET", "passing"),
        await client.execute("LRANGE", "list", 0, -1),
        sorted(await client.execute("SMEMBERS", "set")),
        sorted(await client.execute("HGETALL", "hash")),
        await client.execute("ZRANGE", "zset", 0, -1, "WITHSCORES"),
    ]
