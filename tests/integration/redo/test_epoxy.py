"""What the arm after Epoxy promises beyond the others: nothing uncommitted is seen, and none of it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chaos.errors import StoreInDoubt, StoreUnavailable, TransactionAborted
from chaos.stores.redis import RedisStore, Script
from chaos.stores.sqlite import SQLiteStore, WriteTransaction
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.epoxy import EpoxySystem
from chaos.transactions.epoxy_redis import EpoxyRedis
from chaos.transactions.redis_versions import SHIP
from chaos.transactions.system import Aborted, Committed, InDoubt

from .conftest import Place, converged, faults, until
from .test_redo_crash import die
from .test_redo_recover import Gates

pytestmark = [pytest.mark.requires("redis"), pytest.mark.parametrize("arm", ["epoxy"], indirect=True)]
only_kuzu = pytest.mark.parametrize("engine", ["kuzu"], indirect=True)


def told(system: Any, word: str) -> list[str]:
    """Return the phases with `word` in them that a system has told so far."""
    return [name for name, _ in system.site.phases if word in name]


async def raw(place: Place) -> list[str]:
    """Return the list of marks that Redis holds, committed or not."""
    client = RedisStore("127.0.0.1", place.server.port)
    marks: list[str] = await client.execute("LRANGE", "marks", 0, -1)
    await client.close()
    return [mark.partition(" ")[0] for mark in marks]


async def test_both_stores_have_a_transaction_before_it_is_committed(place: Place) -> None:
    """The phases come in the documented order, and an acknowledged transaction is everywhere."""
    await place.set_up()
    system = await place.open()
    request = place.request("t0")
    outcome = await system.transact(request)
    assert outcome == Committed(csn=1, applied=True)
    names = [name for name, token in system.site.phases if token == "t0"]
    assert names[:4] == ["begin", "buffered", "queued", "sqlite.begun"]
    assert sorted(names[4:8]) == ["graph.applied", "graph.applying", "redis.applied", "redis.applying"]
    assert names[8:] == ["sqlite.committing", "sqlite.committed", "applied", "acknowledged"]
    assert faults(await system.read_back(), [request], {"t0": outcome}) == []


class _NoPurge(EpoxySystem):
    """Takes nothing back, and believes what Redis says."""

    class redis_secondary(EpoxyRedis):  # noqa: N801  # a seam of RedoSystem
        ship_script = Script(SHIP.text.replace("if not take_back(head.committed)", "if false", 1))
        take_back_script = Script("return {'settled', redis.call('GET', KEYS[1])}")

        async def applied(self) -> int:
            return min(await super().applied(), self.log.last_csn)


@pytest.mark.parametrize("phase", ["redis.applied", "sqlite.committing"])
async def test_orphans_are_purged_before_anybody_is_admitted(place: Place, phase: str) -> None:
    """What a crash before the COMMIT leaves in a store is in none when recovery is done, and was never visible."""
    await place.set_up()
    request = place.request("orphan")
    await die(place, phase, 1, [request])
    assert await raw(place) == ["orphan"], "the crash has left something, or this proves nothing"
    system = await place.open()
    assert await raw(place) == []
    assert told(system, "purg") == ["redis.purging", "redis.purged"]
    names = [name for name, _ in system.site.phases]
    assert names.index("redis.purged") < names.index("recovered")
    images = await system.read_back()
    assert faults(images, [request], await system.recover(["orphan"])) == []
    assert isinstance(await system.transact(place.request("next")), Committed)
    assert faults(await converged(system), [request, place.request("next")], {"orphan": "aborted"}) == []


@only_kuzu
async def test_without_the_purge_an_orphan_becomes_visible(place: Place) -> None:
    """The planted bug: the next commit gets the orphan's number, and everybody sees both."""
    await place.set_up()
    request = place.request("orphan")
    await die(place, "sqlite.committing", 1, [request])
    system = await place.open(_NoPurge)
    resolved = await system.recover(["orphan"])
    assert isinstance(await system.transact(place.request("next")), Committed)
    assert any("orphan torn" in one for one in faults(await system.read_back(), [request], resolved))


@only_kuzu
async def test_a_recovery_that_dies_over_the_purge_is_done_again(place: Place) -> None:
    """SIGKILL before the purge, and right after it: the next process finishes what is left."""
    await place.set_up()
    request = place.request("orphan")
    await die(place, "sqlite.committing", 1, [request])
    await die(place, "redis.purging", 1, [])
    assert await raw(place) == ["orphan"]
    await die(place, "redis.purged", 1, [])
    assert await raw(place) == []
    system = await place.open()
    assert faults(await converged(system), [request], await system.recover(["orphan"])) == []
    assert isinstance(await system.transact(place.request("next")), Committed)


def _recording(sent: list[tuple[Any, ...]]) -> type[EpoxySystem]:
    """Return a system that notes what it ships."""

    class Recording(EpoxyRedis):
        async def ship(self, rows: Sequence[Any], horizon: int) -> None:
            evaluate = self.store.evaluate

            async def noting(script: Any, keys: Any, arguments: Any) -> Any:
                sent.append((keys, arguments))
                return await evaluate(script, keys, arguments)

            vars(self.store)["evaluate"] = noting
            try:
                await super().ship(rows, horizon)
            finally:
                del vars(self.store)["evaluate"]

    return type("RecordingSystem", (EpoxySystem,), {"redis_secondary": Recording})


_UNORDERED = Script(SHIP.text.replace("if mine[1] < epoch", "if false and mine[1] < epoch"))


@only_kuzu
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_late_request_of_an_earlier_leader_changes_nothing(place: Place, *, ordered: bool) -> None:
    """A batch that arrives after its leader was replaced is refused; without the order it would be an orphan."""
    await place.set_up()
    sent: list[tuple[Any, ...]] = []
    first = await place.open(_recording(sent))
    assert isinstance(await first.transact(place.request("t0")), Committed)
    await first.close()
    system = await place.open()
    client = system._stores.redis
    [(keys, (head, rows))] = sent
    late = head.replace('"committed":"0"', '"committed":"1"').replace('"number":"2"', '"number":"9"')
    assert late != head
    later = rows.replace('"1","0","t0"', '"2","1","late"')
    assert later != rows
    reply = await client.evaluate(SHIP if ordered else _UNORDERED, keys, (late, later))
    assert reply == (["late"] if ordered else ["shipped"])
    assert len(await raw(place)) == (1 if ordered else 2)


@only_kuzu
async def test_a_batch_that_was_given_up_cannot_arrive_later(place: Place) -> None:
    """Taking a batch back refuses its request for ever, the one that is still on its way too."""
    await place.set_up()
    sent: list[tuple[Any, ...]] = []
    system = await place.open(_recording(sent))
    redis = system._coordinator._appliers[0]
    async with redis.lock:
        redis.secondary._settled = False  # as after a batch of which nobody knows whether it arrived
        redis._certain = False
    await asyncio.wait_for(redis.wait_for(0), 10)
    assert isinstance(await system.transact(place.request("t0")), Committed)
    keys, arguments = sent[-1]
    redis._doubt()
    redis.secondary._settled = False
    await asyncio.wait_for(redis.wait_for(1), 10)
    head = arguments[0].replace('"committed":"0"', '"committed":"1"')
    rows = arguments[1].replace('"1","0","t0"', '"2","1","late"')
    assert await system._stores.redis.evaluate(SHIP, keys, (head, rows)) == ["late"]
    assert await raw(place) == ["t0"]


class _DoubtfulCommit:
    """Makes the next COMMIT report an error: after it has happened, or instead of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, happens: bool) -> None:
        real = WriteTransaction.commit
        self.armed = False

        async def commit(transaction: WriteTransaction) -> None:
            if not self.armed:
                await real(transaction)
                return
            self.armed = False
            if happens:
                await real(transaction)
            transaction._store.halt("planted")
            raise StoreInDoubt("sqlite", "COMMIT: planted")

        monkeypatch.setattr(WriteTransaction, "commit", commit)


@pytest.mark.parametrize("happens", [True, False])
async def test_an_error_at_commit_is_settled_before_anything_is_taken_back(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, happens: bool
) -> None:
    """The log is read anew: what is in it stays in every store, what is not is taken back from both."""
    await place.set_up()
    system = await place.open()
    doubt = _DoubtfulCommit(monkeypatch, happens=happens)
    requests = [place.request(f"t{n}") for n in range(3)]
    outcomes = {"t0": await system.transact(requests[0])}
    doubt.armed = True
    outcomes["t1"] = await system.transact(requests[1])
    assert isinstance(outcomes["t1"], Committed if happens else Aborted)
    outcomes["t2"] = await system.transact(requests[2])
    assert isinstance(outcomes["t2"], Committed)
    assert faults(await converged(system), requests, outcomes) == []
    assert bool(told(system, "purg")) is not happens


class _Forgetful(EpoxySystem):
    """Takes every error at COMMIT for an abort, and what it remembers for the truth."""

    async def open(self, site: Any) -> None:
        """Never read the end of the log anew."""
        await super().open(site)
        log: Any = self._coordinator._log  # type: ignore[union-attr]

        async def remember() -> None:
            """Keep the number."""

        async def reopen() -> None:
            known = log.last_csn
            await type(log).reopen(log)
            log.last_csn = known

        vars(log)["read_end"] = remember
        vars(log)["reopen"] = reopen

        async def absent(token: str) -> None:
            """Say that no token is there."""

        vars(log)["csn_of"] = absent


@only_kuzu
async def test_a_commit_error_taken_for_an_abort_tears_the_transaction(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: hole (b) of the paper's code purges what SQLite has committed."""
    await place.set_up()
    system = await place.open(_Forgetful)
    doubt = _DoubtfulCommit(monkeypatch, happens=True)
    doubt.armed = True
    request = place.request("t0")
    outcome = await system.transact(request)
    assert isinstance(outcome, Aborted)

    async def taken_back() -> bool:
        return "redis.purged" in told(system, "purg")

    await until(taken_back)
    assert any("t0 torn" in one for one in faults(await system.read_back(), [request], {"t0": outcome}))


async def test_what_a_store_refuses_is_aborted_alone_and_everywhere(place: Place) -> None:
    """A command or a statement that cannot be run aborts its transaction, and no other of its batch."""
    await place.set_up()
    gates = Gates("sqlite.begun")
    system = await place.open(hook=gates.hook)
    await system._stores.redis.execute("SET", "text", "no number")
    first = asyncio.create_task(system.transact(place.request("first")))
    await gates.came(1)

    async def run(token: str, command: tuple[Any, ...], cypher: str) -> int | None:
        async with system._coordinator.transaction(deadline_s=20, token=token) as txn:
            txn.sqlite.execute("INSERT INTO transfers VALUES (?, 0, 0, 0, '')", (token,))
            txn.redis.command("RPUSH", "marks", f"{token} ")
            txn.redis.command(*command)
            txn.graph.execute(cypher, {"id": 100 if token == "a" else 101})
        return txn.csn

    fine = ("INCRBY", "number", 1), "CREATE (:Account {id: $id})"
    tasks = [
        asyncio.create_task(run("a", *fine)),
        asyncio.create_task(run("wrong type", ("INCRBY", "text", 1), fine[1])),
        asyncio.create_task(run("no table", fine[0], "CREATE (:Nowhere {id: $id})")),
        asyncio.create_task(run("b", *fine)),
    ]

    async def queued() -> bool:
        return len(system._coordinator._leader._queue) == len(tasks)

    await until(queued)
    gates.gates[0].set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(await first, Committed)
    assert [type(one) for one in found] == [int, TransactionAborted, TransactionAborted, int]

    async def agreed() -> bool:  # what was aborted last is taken back when its caller knows already
        images = await system.read_back()
        return sorted(images["redis"].marks) == sorted(images["sqlite"].marks) == ["a", "b", "first"]

    await until(agreed)
    images = await system.read_back()
    assert images["redis"].refused == images["graph"].refused == {}
    assert await system._stores.redis.execute("GET", "number") == "2"
    assert await system._stores.graph.query("MATCH (a:Account) WHERE a.id >= 100 RETURN a.id ORDER BY a.id") == [
        [100],
        [101],
    ]


async def test_redis_that_fails_before_the_commit_aborts_everywhere(place: Place) -> None:
    """A server without memory takes no batch: the graph, which had it, is rid of it, and work goes on afterwards."""
    await place.set_up()
    system = await place.open()
    store = system._stores.redis
    requests = [place.request(f"t{n}") for n in range(5)]
    outcomes = {"t0": await system.transact(requests[0])}
    for bad, good in ((1, 2), (3, 4)):
        await store.execute("CONFIG", "SET", "maxmemory", "1")
        outcome = outcomes[f"t{bad}"] = await system.transact(requests[bad])
        await store.execute("CONFIG", "SET", "maxmemory", "0")
        assert isinstance(outcome, Aborted)
        assert "maxmemory" in outcome.reason
        outcomes[f"t{good}"] = await system.transact(requests[good])
        assert isinstance(outcomes[f"t{good}"], Committed)
    assert faults(await converged(system), requests, outcomes) == []
    assert told(system, "graph.purg") == ["graph.purging", "graph.purged"], "the second failure came before the graph"


@only_kuzu
async def test_a_server_that_is_another_process_is_not_shipped_to(place: Place) -> None:
    """Between a restart and the filling nothing is written to what the server has read from its file, nor read."""
    await place.set_up()
    system = await place.open()
    assert isinstance(await system.transact(place.request("t0")), Committed)
    secondary = system._coordinator._appliers[0].secondary
    real = secondary.server
    secondary._trusted = "epoxy:" + "0" * 40
    with pytest.raises(StoreUnavailable, match="stranger"):
        await secondary.ship([], 0)
    secondary._trusted = f"epoxy:{real}"
    assert isinstance(await system.transact(place.request("t1")), Committed | InDoubt)
    assert faults(await converged(system), [place.request("t0"), place.request("t1")], {}) == []


@only_kuzu
async def test_the_other_arm_fills_anew_what_holds_versions(place: Place) -> None:
    """The arms share the log but not what they keep in Redis: each makes the server its own."""
    from chaos.transactions.redo import RedoSystem

    await place.set_up()
    requests = [place.request(f"t{n}") for n in range(3)]
    for request, kind in zip(requests, (EpoxySystem, RedoSystem, EpoxySystem), strict=True):
        system = await place.open(kind)
        assert isinstance(await system.transact(request), Committed)
        assert faults(await converged(system), requests, {}) == []
        await system.close()
    assert told(system, "redis.rebuil") == ["redis.rebuilding", "redis.rebuilt"]


@only_kuzu
async def test_one_that_gives_up_while_its_rows_are_written_is_taken_out(place: Place) -> None:
    """Cancelled after its batch has begun and before it is shipped, a transaction is in no store, the others in all."""
    await place.set_up()
    tasks: dict[str, asyncio.Task[Any]] = {}
    gates = Gates("sqlite.begun")
    system = await place.open(hook=gates.hook)
    leader = system._coordinator._leader
    append = leader._log.append

    async def cancelling(*arguments: Any, **options: Any) -> Any:
        results = await append(*arguments, **options)
        if not tasks["a"].done():
            tasks["a"].cancel()
            await asyncio.wait({tasks["a"]})
        return results

    vars(leader._log)["append"] = cancelling
    requests = [place.request(name) for name in ("a", "b")]
    tasks["a"] = asyncio.create_task(system.transact(requests[0]))
    await gates.came(1)
    tasks["b"] = asyncio.create_task(system.transact(requests[1]))
    gates.gates[0].set()
    assert isinstance(await tasks["b"], Committed)
    assert tasks["a"].cancelled()
    assert faults(await converged(system), requests, await system.recover(["a"])) == []
    assert await system.recover(["a"]) == {"a": "aborted"}


@only_kuzu
async def test_nobody_takes_over_while_a_batch_is_shipped(place: Place) -> None:
    """A leader that stands still in the middle of shipping has SQLite's lock, so nothing is purged under it."""
    await place.set_up()
    gates = Gates("redis.applied")
    system = await place.open(hook=gates.hook)
    writing = asyncio.create_task(system.transact(place.request("t0", deadline_s=20)))
    await gates.came(1)
    other = SQLiteStore(place.config.folder("sqlite"))
    with pytest.raises(StoreUnavailable, match="locked"):
        await other.open(CommitLog(other).take_over)
    gates.gates[0].set()
    assert isinstance(await writing, Committed)
    await other.open(CommitLog(other).take_over)
    await other.close()
    outcome = await system.transact(place.request("t1"))
    assert isinstance(outcome, Aborted)
    assert "taken over" in outcome.reason
    assert await raw(place) == ["t0"]
