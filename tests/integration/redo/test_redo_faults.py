from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import time
from typing import Any

import pytest

from chaos.errors import StoreUnavailable
from chaos.transactions.coordinator import LAG_MAX
from chaos.transactions.system import Aborted, Committed, InDoubt, Outcome, Request

from .conftest import Place, both_arms, committed, converged, faults, until

pytestmark = pytest.mark.requires("redis")


async def load(
    place: Place, system: Any, count: int, outcomes: dict[str, Outcome], requests: list[Request], *, name: str = "t"
) -> None:
    """Run `count` transactions, four at a time."""
    mine = [place.request(f"{name}{n}", deadline_s=1.0, reads_redis=n % 2 == 0) for n in range(count)]
    requests += mine

    async def client(number: int) -> None:
        for request in mine[number::4]:
            outcomes[request.token] = await system.transact(request)

    await asyncio.gather(*(client(number) for number in range(4)))


async def judge(system: Any, requests: list[Request], outcomes: dict[str, Outcome]) -> list[str]:
    """Resolve what is in doubt, wait for agreement, and list what is wrong."""
    tokens = [token for token, outcome in outcomes.items() if isinstance(outcome, InDoubt)]
    resolved = await system.recover(tokens)
    assert set(resolved) == set(tokens)
    return faults(await converged(system), requests, {**outcomes, **resolved})


async def test_redis_killed_and_restarted_under_load(place: Place) -> None:
    """While Redis is gone SQLite goes on; after its restart it catches up, nothing twice."""
    await place.set_up()
    system = await place.open()
    outcomes: dict[str, Outcome] = {}
    requests: list[Request] = []
    await load(place, system, 8, outcomes, requests, name="before")
    assert place.server.child is not None
    await place.server.child.kill()
    await load(place, system, 8, outcomes, requests, name="during")
    assert any(
        outcome == Committed(csn=outcome.csn, applied=False)
        for outcome in outcomes.values()
        if isinstance(outcome, Committed)
    )
    await place.server.start()
    await load(place, system, 8, outcomes, requests, name="after")
    assert await judge(system, requests, outcomes) == []


@both_arms
async def test_redis_that_lost_everything_is_filled_again(place: Place) -> None:
    """An empty Redis gets the first rows and every committed transaction back, without new work to trigger it."""
    await place.set_up()
    system = await place.open()
    outcomes: dict[str, Outcome] = {}
    requests: list[Request] = []
    await load(place, system, 12, outcomes, requests)
    assert place.server.child is not None
    await place.server.child.kill()
    shutil.rmtree(place.root / "data" / "redis")
    await place.server.start()
    assert await judge(system, requests, outcomes) == []
    assert committed(outcomes) > 6


@both_arms
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
async def test_graph_child_hit_by_a_signal_under_load(place: Place, signal_number: int) -> None:
    """A graph process that is killed, crashes or hangs is replaced and brought up, nothing twice."""
    await place.set_up()
    system = await place.open()
    outcomes: dict[str, Outcome] = {}
    requests: list[Request] = []
    running = asyncio.create_task(load(place, system, 40, outcomes, requests))

    async def some_work_done() -> bool:
        return len(outcomes) >= 8

    await until(some_work_done)
    pid = system.site.children["graph"]
    os.kill(pid, signal_number)
    await running
    assert await judge(system, requests, outcomes) == []
    assert system.site.children["graph"] != pid


@both_arms
async def test_a_graph_that_lost_its_file_is_made_again(place: Place) -> None:
    """Without its file the graph is filled from the log."""
    await place.set_up()
    system = await place.open()
    outcomes: dict[str, Outcome] = {}
    requests: list[Request] = []
    await load(place, system, 8, outcomes, requests)
    await system.close()
    for file in (place.root / "data" / "graph").glob("graph.db*"):
        file.unlink()
    system = await place.open()
    assert await judge(system, requests, outcomes) == []
    assert committed(outcomes) == 8


async def test_a_graph_file_that_cannot_be_opened_is_set_aside(place: Place) -> None:
    """A file of garbage is kept as evidence, and the graph is made again from the log."""
    await place.set_up()
    system = await place.open()
    outcomes: dict[str, Outcome] = {}
    requests: list[Request] = []
    await load(place, system, 4, outcomes, requests)
    await system.close()
    folder = place.root / "data" / "graph"
    (folder / "graph.db").write_bytes(b"not a database, and corrupt at that " * 1000)
    system = await place.open()
    assert await judge(system, requests, outcomes) == []
    assert (folder / "broken-1" / "graph.db").exists()


async def test_holes_in_the_graph_are_found_when_it_is_opened(place: Place) -> None:
    """A transaction missing in the middle of the graph makes the coordinator rebuild it."""
    from chaos.stores.graph import GraphStore

    await place.set_up()
    system = await place.open()
    outcomes: dict[str, Outcome] = {}
    requests: list[Request] = []
    await load(place, system, 8, outcomes, requests)
    await system.close()
    graph = GraphStore(place.config.folder("graph"), engine=place.engine, log=place.root / "logs" / "hole.log")
    graph.open()
    await graph.wait_ready(10)
    await graph.write([("MATCH (a:Applied {csn: $csn}) DELETE a", {"csn": 4})])
    await graph.write([("MATCH ()-[s:SENT]->() WHERE s.token = $token DELETE s", {"token": "t3"})])
    await graph.close()
    system = await place.open()
    assert await judge(system, requests, outcomes) == []


@both_arms
async def test_a_failed_commit_is_settled_by_reading_the_log_anew(place: Place) -> None:
    """When a write to the log fails inside COMMIT, the outcome that is told is the one that recovery finds."""
    await place.set_up()
    log = place.root / "data" / "sqlite" / "main.db-wal"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def hook(name: str, token: str | None, store: str | None) -> None:
        if (name, token) == ("sqlite.committing", "bad"):
            # The process may not write files beyond this size: pwrite fails with EFBIG (setrlimit(2)).
            resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 5000, hard))

    system = await place.open(hook=hook)
    requests = [place.request("good"), place.request("bad", deadline_s=1.0), place.request("next")]
    outcomes: dict[str, Outcome] = {"good": await system.transact(requests[0])}
    try:
        outcomes["bad"] = await system.transact(requests[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(outcomes["bad"], InDoubt)

    async def reopened() -> bool:
        try:
            return bool(await system._stores.sqlite.fetch("SELECT 1"))
        except StoreUnavailable:
            return False

    await until(reopened)
    outcomes["next"] = await system.transact(requests[2])
    assert isinstance(outcomes["next"], Committed)
    assert await judge(system, requests, outcomes) == []


@both_arms
async def test_a_full_database_aborts_and_later_work_goes_on(place: Place) -> None:
    """SQLITE_FULL means that the transaction is gone; nothing halts."""
    await place.set_up()
    system = await place.open()
    store = system._stores.sqlite
    [(pages,)] = await store.fetch("PRAGMA page_count")
    await store._writer.execute_fetchall(f"PRAGMA max_page_count={pages}")
    outcome: Outcome = Committed(csn=0)
    requests = []
    for n in range(400):
        requests.append(place.request(f"t{n}", mark=f"{n}".rjust(200, "-")))
        outcome = await system.transact(requests[-1])
        if isinstance(outcome, Aborted):
            break
    assert isinstance(outcome, Aborted)
    assert "FULL" in outcome.reason
    assert store.halted is None
    await store._writer.execute_fetchall("PRAGMA max_page_count=100000")
    requests.append(place.request("later"))
    assert isinstance(await system.transact(requests[-1]), Committed)
    assert faults(await converged(system), requests, {requests[-2].token: outcome}) == []


async def test_a_store_far_behind_holds_new_work_back(place: Place) -> None:
    """What comes while Redis is behind by more than the bound waits for it, aborts at its deadline and says why."""
    await place.set_up()
    system = await place.open()
    assert place.server.child is not None
    os.kill(place.server.child.pid, signal.SIGSTOP)
    redis, _ = system._coordinator._appliers
    count = 0
    while system._coordinator._lag(redis) <= LAG_MAX:
        some = [place.request(f"t{count + n}", deadline_s=1.0) for n in range(64)]
        await asyncio.gather(*map(system.transact, some))
        count += len(some)
    late = place.request("late", deadline_s=0.3)
    outcome = await system.transact(late)
    assert isinstance(outcome, Aborted)
    assert re.search(r"redis is \d+ transactions behind", outcome.reason), outcome
    patient = asyncio.create_task(system.transact(place.request("patient", deadline_s=20.0)))

    async def waits() -> bool:
        return bool(redis._waiting)

    await until(waits)
    os.kill(place.server.child.pid, signal.SIGCONT)
    assert isinstance(await patient, Committed)


async def test_transactions_keep_to_their_deadline_while_redis_hangs(place: Place) -> None:
    """With Redis stopped no transaction takes much longer than its deadline; all is well after it goes on."""
    await place.set_up()
    system = await place.open()
    outcomes: dict[str, Outcome] = {}
    requests: list[Request] = []
    assert place.server.child is not None
    os.kill(place.server.child.pid, signal.SIGSTOP)
    durations = []
    for n in range(4):
        requests.append(place.request(f"t{n}", deadline_s=0.5, reads_redis=n % 2 == 0))
        began = time.monotonic()
        outcomes[f"t{n}"] = await system.transact(requests[-1])
        durations.append(time.monotonic() - began)
    os.kill(place.server.child.pid, signal.SIGCONT)
    assert max(durations) < 0.8
    assert isinstance(outcomes["t0"], Aborted)
    assert isinstance(outcomes["t1"], Committed)
    assert await judge(system, requests, outcomes) == []


async def test_what_redis_refuses_for_good_is_told_and_not_tried_for_ever(place: Place) -> None:
    """A command that fails because of its data, the first one too, is kept as refused; the rest is applied."""
    await place.set_up()
    system = await place.open()
    store = system._stores.redis
    for key in ("balance:0", "balance:3"):
        await store.execute("DEL", key)
        await store.execute("RPUSH", key, "no number")
    first = await system.transact(place.request("first", source=0, target=1, amount=5, mark="0>1:5"))
    second = await system.transact(place.request("second", source=1, target=3, amount=5, mark="1>3:5"))
    assert [type(first), first.applied, second.applied] == [Committed, True, True]
    image = (await system.read_back())["redis"]
    assert {token: len(errors) for token, errors in image.refused.items()} == {"first": 1, "second": 1}
    assert image.refused["first"][0].startswith("command 1: WRONGTYPE")
    assert image.refused["second"][0].startswith("command 2: WRONGTYPE")
    assert (image.counters["balance:0"], image.counters["balance:1"]) == (None, 1000)
    assert image.marks == {"first": ["0>1:5"], "second": ["1>3:5"]}


async def test_what_redis_refuses_for_a_while_is_tried_again(place: Place) -> None:
    """A server without memory refuses the first command; once it has some the transaction is applied whole."""
    await place.set_up()
    system = await place.open()
    store = system._stores.redis
    await store.execute("CONFIG", "SET", "maxmemory", "1")
    request = place.request("t0", deadline_s=0.5)
    outcome = await system.transact(request)
    assert outcome == Committed(csn=outcome.csn, applied=False)
    await store.execute("CONFIG", "SET", "maxmemory", "0")
    assert faults(await converged(system), [request], {"t0": outcome}) == []
    assert (await system.read_back())["redis"].refused == {}
