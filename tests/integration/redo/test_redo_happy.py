from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest

from chaos.stores.redis import RedisStore
from chaos.transactions.system import Aborted, Committed, InDoubt

from .conftest import Place, both_arms, converged, faults, until

pytestmark = pytest.mark.requires("redis")


async def test_a_transaction_is_in_every_store_when_acknowledged(place: Place) -> None:
    """An acknowledged and applied transaction is found in all three stores at once."""
    await place.set_up()
    system = await place.open()
    request = place.request("t0", mark="1>2:3", source=1, target=2, amount=3)
    outcome = await system.transact(request)
    assert outcome == Committed(csn=1, applied=True)
    images = await system.read_back()
    assert {store: image.marks for store, image in images.items()} == {
        store: {"t0": ["1>2:3"]} for store in ("sqlite", "redis", "graph")
    }
    assert faults(images, [request], {"t0": outcome}) == []


@both_arms
async def test_concurrent_clients_leave_equal_stores(place: Place) -> None:
    """Transactions of several clients at once are all there, once each, with equal balances."""
    await place.set_up()
    system = await place.open()
    requests = [place.request(f"t{n}", reads_redis=n % 2 == 0) for n in range(24)]
    outcomes = await asyncio.gather(*(system.transact(request) for request in requests))
    assert sorted(outcome.csn for outcome in outcomes) == list(range(1, 25))
    found = faults(await system.read_back(), requests, {r.token: o for r, o in zip(requests, outcomes, strict=True)})
    assert found == []


async def test_phases_come_in_the_documented_order(place: Place) -> None:
    """A single transaction reports its phases as the schedules name them."""
    await place.set_up()
    system = await place.open()
    await system.transact(place.request("t0"))
    names = [name for name, token in system.site.phases if token == "t0"]
    assert [name for name in names if not name.startswith(("redis", "graph"))] == [
        "begin",
        "buffered",
        "queued",
        "sqlite.begun",
        "sqlite.committing",
        "sqlite.committed",
        "applied",
        "acknowledged",
    ]
    followers = names[names.index("sqlite.committed") + 1 : names.index("applied")]
    assert sorted(followers) == ["graph.applied", "graph.applying", "redis.applied", "redis.applying"]
    assert [name for name, _ in system.site.phases[:2]] == ["recovering", "recovered"]


@both_arms
async def test_too_little_money_aborts(place: Place) -> None:
    """A transfer of more than the account holds takes effect nowhere."""
    await place.set_up()
    system = await place.open()
    outcome = await system.transact(place.request("t0", amount=5000))
    assert isinstance(outcome, Aborted)
    assert all(image.marks == {} for image in (await system.read_back()).values())


@both_arms
async def test_the_constraint_guards_what_two_clients_read_at_once(place: Place) -> None:
    """Two transfers that each see enough money, but not enough for both: exactly one commits."""
    await place.set_up()
    system = await place.open()
    requests = [place.request(f"t{n}", source=0, target=1, amount=600) for n in range(2)]
    outcomes = await asyncio.gather(*(system.transact(request) for request in requests))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Aborted", "Committed"]
    assert (await system.read_back())["sqlite"].counters["balance:0"] == 400


@both_arms
async def test_a_token_commits_only_once(place: Place) -> None:
    """Running a committed token again returns its number and changes nothing."""
    await place.set_up()
    system = await place.open()
    first = await system.transact(place.request("t0"))
    again = await system.transact(place.request("t0"))
    assert (first.csn, again.csn) == (1, 1)
    assert faults(await system.read_back(), [place.request("t0")], {"t0": again}) == []


@both_arms
async def test_the_deadline_in_the_queue_aborts(place: Place) -> None:
    """A transaction that waits behind a slow commit until its deadline takes effect nowhere, also later."""
    await place.set_up()
    begun, gate = asyncio.Event(), asyncio.Event()

    async def hook(name: str, token: str | None, store: str | None) -> None:
        if (name, token) == ("sqlite.begun", "slow"):
            begun.set()
            await gate.wait()

    system = await place.open(hook=hook)
    slow = asyncio.create_task(system.transact(place.request("slow")))
    await asyncio.wait_for(begun.wait(), 5)
    outcome = await system.transact(place.request("t1", deadline_s=0.1))
    gate.set()
    assert isinstance(outcome, Aborted)
    assert isinstance(await slow, Committed)
    assert await system.recover(["t1"]) == {"t1": "aborted"}
    assert set((await converged(system))["sqlite"].marks) == {"slow"}


async def test_the_deadline_between_commit_and_apply_is_told(place: Place) -> None:
    """When the deadline comes while a store is behind, the answer is committed but not applied; it follows."""
    await place.set_up()
    gate = asyncio.Event()

    async def hook(name: str, token: str | None, store: str | None) -> None:
        if name == "redis.applying":
            await gate.wait()

    system = await place.open(hook=hook)
    outcome = await system.transact(place.request("t0", deadline_s=0.5))
    assert outcome == Committed(csn=1, applied=False)
    gate.set()
    assert set((await converged(system))["redis"].marks) == {"t0"}


@both_arms
async def test_a_cancelled_transaction_has_one_outcome(place: Place) -> None:
    """Cancelled at any phase, a transaction is everywhere or nowhere, and recovery says which."""
    await place.set_up()
    at: dict[str, Any] = {}

    async def hook(name: str, token: str | None, store: str | None) -> None:
        if token == f"t-{name}":
            at["task"].cancel()
            await asyncio.sleep(0)

    system = await place.open(hook=hook)
    phases = ("begin", "buffered", "queued", "sqlite.begun", "sqlite.committing", "sqlite.committed", "redis.applying")
    requests = [place.request(f"t-{name}") for name in phases]
    for request in requests:
        at["task"] = asyncio.create_task(system.transact(request))
        await asyncio.wait({at["task"]})
        assert at["task"].cancelled()
    known = await system.recover([request.token for request in requests])
    assert known["t-sqlite.begun"] == "aborted"
    assert known["t-redis.applying"] == "committed"
    assert faults(await converged(system), requests, known) == []


@both_arms
async def test_closing_leaves_nothing_behind(place: Place) -> None:
    """After close no thread, no task and no child is left."""
    await place.set_up()
    threads = set(threading.enumerate())
    tasks = asyncio.all_tasks()
    system = await place.open()
    await system.transact(place.request("t0", reads_redis=True))
    assert system.site.children["graph"] is not None
    await system.close()

    async def threads_ended() -> bool:
        return set(threading.enumerate()) <= threads

    await until(threads_ended)
    assert {task for task in asyncio.all_tasks() - tasks if not task.done()} == set()
    assert system.site.children["graph"] is None


async def test_an_old_coordinator_is_fenced(place: Place) -> None:
    """Once another has taken the log over, the one before commits nothing any more."""
    await place.set_up()
    old = await place.open()
    assert isinstance(await old.transact(place.request("t0")), Committed)
    log = (await _log_of(place)).last_csn
    assert log == 1
    outcome = await old.transact(place.request("t1"))
    assert isinstance(outcome, Aborted)
    assert "taken over" in outcome.reason
    assert "t1" not in (await old.read_back())["sqlite"].marks


async def _log_of(place: Place) -> Any:
    """Take the log over with a second connection, as a second process would."""
    from chaos.stores.sqlite import SQLiteStore
    from chaos.transactions.commit_log import CommitLog

    store = SQLiteStore(place.config.folder("sqlite"))
    log = CommitLog(store)

    async def checkpointless() -> None:
        async with store.write() as transaction:
            await transaction.execute("UPDATE meta SET value = 'somebody else' WHERE key = 'owner'")
            [(log.last_csn,)] = await transaction.fetch("SELECT max(csn) FROM commits")
            await transaction.commit()

    await store.open(checkpointless)
    await store.close()
    return log


async def test_a_duplicated_apply_is_a_no_op(place: Place) -> None:
    """Sending a transaction to Redis and the graph again, late, changes neither."""
    from chaos.stores.graph import GraphStore
    from chaos.transactions.commit_log import CommitLog
    from chaos.transactions.graph_secondary import GraphSecondary
    from chaos.transactions.secondaries import RedisSecondary

    await place.set_up()
    system = await place.open()
    requests = [place.request(f"t{n}") for n in range(3)]
    for request in requests:
        await system.transact(request)
    stores = system._stores
    log: CommitLog = system._coordinator._log
    genesis = place.workload.genesis()
    rows = await log.after(0)
    graph: GraphStore = stores.graph
    redis: RedisStore = stores.redis_applier
    site = place.site()
    for row in rows:
        assert await RedisSecondary(redis, genesis, log, site).apply([row])
        assert await GraphSecondary(graph, genesis, log, site).apply([row])
    assert faults(await system.read_back(), requests, {}) == []


async def test_nothing_is_admitted_before_recovery(place: Place) -> None:
    """A transaction before `recover` is refused, so that it cannot read stores that are still behind."""
    from chaos.transactions.redo import RedoSystem

    await place.set_up()
    system = RedoSystem()
    await system.open(place.site())
    place.opened.append(system)
    outcome = await system.transact(place.request("t0"))
    assert outcome == Aborted(reason="transaction t0: recovery is not finished")
    await system.recover([])
    assert not isinstance(await system.transact(place.request("t1")), Aborted | InDoubt)


async def test_declared_settings_reach_the_stores(place: Place) -> None:
    """What an experiment declares about the stores and their pools is what the system opens them with."""
    from chaos.stores import Graph, Pool, Redis, SQLite
    from chaos.transactions.stores import Stores

    options = {
        "sqlite": SQLite(synchronous="NORMAL", readers=1).to_config(),
        "redis": Redis(pool=Pool(max_size=5, reserved=1)).to_config(),
        "graph": Graph(buffer_pool_mb=32, snapshots=3, pool=Pool(max_size=2)).to_config(),
    }
    site = place.site()
    site._config = msgspec.structs.replace(place.config, options=options)
    stores = Stores(site)
    await stores.sqlite.open()
    try:
        assert await stores.sqlite.fetch("PRAGMA synchronous") == [(1,)]
        assert [report.size for report in stores.sqlite.pools()] == [1, 0]
        assert stores.redis._pool.settings.max_size == 5
        assert stores.redis_applier._pool is stores.redis._pool
        assert [
            pool.settings.max_size for pool in (stores.graph._readers._readers, stores.graph._readers._snapshots)
        ] == [2, 3]
        assert stores.graph._settings["buffer_pool_mb"] == 32
    finally:
        await stores.close()
