"""What each level of isolation forbids, and what it allows, over real stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from chaos.errors import TransactionAborted
from chaos.transactions.granules import between
from chaos.transactions.view import OwnWritesUnreadable

from .conftest import Place, both_arms, until

pytestmark = pytest.mark.requires("redis")
kuzu_only = pytest.mark.parametrize("engine", ["kuzu"], indirect=True)
both_levels = pytest.mark.parametrize("level", ["serializable", "snapshot"])

READ = "SELECT balance FROM accounts WHERE id = ?"
WRITE = "UPDATE accounts SET balance = ? WHERE id = ?"
SEND = (
    "MATCH (a:Account {id: 0}), (b:Account {id: 1}) CREATE (a)-[:SENT {token: $token, mark: '', amount: $amount}]->(b)"
)
SENT = "MATCH (:Account)-[s:SENT]->(:Account) RETURN count(*), sum(s.amount)"

Body = Callable[[Any], Awaitable[None]]


async def opened(place: Place, hook: Any = None) -> Any:
    """Return a coordinator over six accounts with 1000 each, in every store."""
    await place.set_up()
    return (await place.open(hook=hook))._coordinator


async def write(coordinator: Any, body: Callable[[Any], None]) -> int:
    """Commit a transaction that only writes; return its number."""
    async with coordinator.transaction() as txn:
        body(txn)
    assert txn.csn is not None
    return int(txn.csn)


async def interleaved(coordinator: Any, level: str, reads: list[Body], writes: list[Body]) -> list[str]:
    """Let every transaction read before any commits, then commit them in turn; return how each ended."""
    ended = []
    async with AsyncExitStack() as stack:
        transactions = [coordinator.transaction(isolation=level) for _ in reads]
        units = [await transaction.__aenter__() for transaction in transactions]
        for unit, read in zip(units, reads, strict=True):
            await read(unit)
        for transaction, unit, body in zip(transactions, units, writes, strict=True):
            await body(unit)
            ended.append(await left(transaction))
        await stack.aclose()
    return ended


async def left(transaction: Any) -> str:
    """Leave a transaction's block; tell how it ended, and fail when it was no conflict that ended it."""
    try:
        await transaction.__aexit__(None, None, None)
    except TransactionAborted as error:
        return "aborted" if error.retryable and "conflict" in str(error) else str(error)
    return "committed"


async def run(coordinator: Any, body: Body, **options: Any) -> None:
    """Run one transaction."""
    async with coordinator.transaction(**options) as txn:
        await body(txn)


def reading(*accounts: int) -> Body:
    """Return a body that reads balances in SQLite."""

    async def body(txn: Any) -> None:
        for number in accounts:
            await txn.sqlite.fetch(READ, (number,))

    return body


def writing(account: int, balance: int) -> Body:
    """Return a body that writes a balance in SQLite."""

    async def body(txn: Any) -> None:
        txn.sqlite.execute(WRITE, (balance, account))

    return body


def getting(*keys: str) -> Body:
    """Return a body that reads keys of Redis."""

    async def body(txn: Any) -> None:
        for key in keys:
            await txn.redis.get(key)

    return body


def setting(key: str, value: int) -> Body:
    """Return a body that writes a key of Redis."""

    async def body(txn: Any) -> None:
        txn.redis.command("SET", key, value)

    return body


@both_arms
@kuzu_only
@both_levels
async def test_no_update_is_lost(place: Place, level: str) -> None:
    """Two that read the same value and replace it: only the first commits, in SQLite and in Redis, at both levels."""
    coordinator = await opened(place)
    assert await interleaved(coordinator, level, [reading(0), reading(0)], [writing(0, 1100), writing(0, 1200)]) == [
        "committed",
        "aborted",
    ]
    keys = [getting("balance:0"), getting("balance:0")]
    assert await interleaved(coordinator, level, keys, [setting("balance:0", 1), setting("balance:0", 2)]) == [
        "committed",
        "aborted",
    ]


@both_arms
@kuzu_only
@pytest.mark.parametrize(("level", "second"), [("serializable", "aborted"), ("snapshot", "committed")])
async def test_write_skew(place: Place, level: str, second: str) -> None:
    """Two that read two values, and each changes another one: snapshot isolation lets both, serializable only one.

    Once within SQLite, and once with one value in SQLite and the other in Redis.
    """
    coordinator = await opened(place)
    ended = await interleaved(coordinator, level, [reading(0, 1)] * 2, [writing(0, 0), writing(1, 0)])
    assert ended == ["committed", second]

    async def both(txn: Any) -> None:
        await reading(2)(txn)
        await getting("balance:3")(txn)

    assert await interleaved(coordinator, level, [both, both], [writing(2, 0), setting("balance:3", 0)]) == [
        "committed",
        second,
    ]


@both_arms
@pytest.mark.parametrize(("level", "second"), [("serializable", "aborted"), ("snapshot", "committed")])
@pytest.mark.parametrize("store", ["sqlite", "range", "redis", "graph"])
async def test_a_phantom(place: Place, level: str, second: str, store: str) -> None:
    """Two that count what there is, and each adds one: serializable lets only one; seen again, the count is the same."""
    coordinator = await opened(place)
    range_read = [between("accounts", "id", 100, 200)]

    async def count(txn: Any) -> Any:
        if store == "redis":
            return len(await txn.redis.keys("guest:"))
        if store == "graph":
            return (await txn.graph.query(SENT))[0][0]
        declared = range_read if store == "range" else None
        return (await txn.sqlite.fetch("SELECT count(*) FROM accounts WHERE id >= 100", reads=declared))[0][0]

    seen: list[Any] = []

    async def look(txn: Any) -> None:
        seen.append(await count(txn))

    def add(number: int) -> Body:
        async def body(txn: Any) -> None:
            assert await count(txn) == 0
            txn.redis.command("SET", f"guest:{number}", "x")
            txn.sqlite.execute("INSERT INTO accounts (id, balance) VALUES (?, ?)", (number, 0))
            txn.graph.execute(SEND, {"token": str(number), "amount": 1})

        return body

    assert await interleaved(coordinator, level, [look, look], [add(100), add(101)]) == ["committed", second]
    assert seen == [0, 0]


@both_arms
@kuzu_only
@both_levels
async def test_what_does_not_overlap_does_not_conflict(place: Place, level: str) -> None:
    """Transactions that read and write different rows, keys and ranges all commit."""
    coordinator = await opened(place)

    async def read(txn: Any) -> None:
        declared = [between("accounts", "id", 200, 300)]
        await txn.sqlite.fetch("SELECT count(*) FROM accounts WHERE id >= 200 AND id <= 300", reads=declared)
        await txn.redis.keys("other:")

    async def add(txn: Any) -> None:
        txn.sqlite.execute("INSERT INTO accounts VALUES (?, ?)", (100, 0))
        txn.redis.command("SET", "guest:1", "x")

    ended = await interleaved(
        coordinator,
        level,
        [reading(0), reading(1), read, getting("balance:4")],
        [writing(0, 1), writing(1, 1), add, setting("balance:5", 1)],
    )
    assert ended == ["committed"] * 4


@both_arms
@both_levels
async def test_reads_are_of_one_moment(place: Place, level: str) -> None:
    """What is read after another has committed is as it was before, in every store, and so is a range of keys."""
    coordinator = await opened(place)
    async with coordinator.transaction(isolation=level, read_only=True) as txn:
        assert await txn.sqlite.fetch(READ, (0,)) == [(1000,)]
        assert await txn.graph.query(SENT) == [[0, None]] or (await txn.graph.query(SENT))[0][0] == 0

        def change(other: Any) -> None:
            other.sqlite.execute(WRITE, (1, 0))
            other.redis.command("INCRBY", "balance:0", -999)
            other.redis.command("SET", "balance:new", 1)
            other.redis.command("DEL", "balance:1")
            other.graph.execute(SEND, {"token": "x", "amount": 999})

        csn = await write(coordinator, change)
        assert await txn.sqlite.fetch(READ, (0,)) == [(1000,)]
        assert await txn.redis.get("balance:0") == "1000"
        assert await txn.redis.get("balance:1") == "1000"
        assert await txn.redis.get("balance:new") is None
        assert await txn.redis.keys("balance:") == {f"balance:{n}" for n in range(6)}
        assert (await txn.graph.query(SENT))[0][0] == 0
    assert txn.csn == csn - 1
    async with coordinator.transaction(isolation=level, read_only=True) as txn:
        assert await txn.sqlite.fetch(READ, (0,)) == [(1,)]
        assert await txn.redis.get("balance:0") == "1"
        assert await txn.redis.get("balance:1") is None
        assert (await txn.graph.query(SENT))[0][0] == 1
    assert txn.csn == csn


@both_arms
@kuzu_only
async def test_a_transaction_moves_on_when_nothing_it_read_has_changed(place: Place) -> None:
    """The graph, read late, is seen at a newer commit; when an earlier read is no longer true there, it begins anew."""
    coordinator = await opened(place)
    async with coordinator.transaction() as txn:
        await txn.sqlite.fetch(READ, (0,))
        csn = await write(coordinator, lambda other: other.sqlite.execute(WRITE, (1, 5)))
        assert (await txn.graph.query(SENT))[0][0] == 0
        assert txn.view.csn == csn

    async def body(txn: Any) -> None:
        await txn.sqlite.fetch(READ, (0,))
        await write(coordinator, lambda other: other.sqlite.execute(WRITE, (1, 0)))
        await txn.graph.query(SENT)

    with pytest.raises(TransactionAborted, match="conflict") as caught:
        await run(coordinator, body)
    assert caught.value.retryable


@both_arms
@both_levels
async def test_no_read_is_fractured(place: Place, level: str) -> None:
    """While others move all three stores on together, every reader finds the same step in all of them."""
    coordinator = await opened(place)
    done = asyncio.Event()

    async def move_on() -> None:
        for step in range(1, 61):

            def body(txn: Any, step: int = step) -> None:
                txn.sqlite.execute(WRITE, (step, 0))
                txn.redis.command("SET", "step", step)
                txn.graph.execute(SEND, {"token": str(step), "amount": 1})

            await write(coordinator, body)
        done.set()

    async def look() -> int:
        count = 0
        while not done.is_set():
            try:
                async with coordinator.transaction(isolation=level, read_only=True) as txn:
                    [[edges, _]] = await txn.graph.query(SENT)
                    step = int(await txn.redis.get("step") or 0)
                    [(balance,)] = await txn.sqlite.fetch(READ, (0,))
            except TransactionAborted as error:
                if error.retryable:
                    continue
                raise
            assert (step, balance if balance < 1000 else 0) == (edges, edges)
            count += 1
        return count

    *counts, _ = await asyncio.gather(look(), look(), move_on())
    assert sum(counts) > 5


@both_arms
@kuzu_only
async def test_a_transaction_reads_its_own_writes(place: Place) -> None:
    """In Redis of any type, in SQLite through joins and constraints; in the graph it is told that it cannot."""
    coordinator = await opened(place)
    async with coordinator.transaction() as txn:
        txn.redis.command("INCRBY", "balance:0", 5)
        txn.redis.command("RPUSH", "list", "a", "b")
        txn.redis.command("HSET", "hash", "f", "1")
        txn.redis.command("DEL", "balance:1")
        assert await txn.redis.get("balance:0") == "1005"
        assert await txn.redis.read("LRANGE", "list", 0, -1) == ["a", "b"]
        assert await txn.redis.read("HGETALL", "hash") == ["f", "1"]
        assert await txn.redis.read("MGET", "balance:1", "balance:2") == [None, "1000"]
        assert await txn.redis.read("TYPE", "list") == "list"
        assert await txn.redis.keys("balance:") == {f"balance:{n}" for n in (0, 2, 3, 4, 5)}
        txn.sqlite.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", (7, 0))
        assert await txn.sqlite.fetch(READ, (0,)) == [(1007,)]
        assert await txn.sqlite.fetch("SELECT sum(balance) FROM accounts") == [(6007,)]
        assert await txn.sqlite.fetch(READ, (1,)) == [(1000,)]
        txn.graph.execute(SEND, {"token": "x", "amount": 1})
        with pytest.raises(OwnWritesUnreadable):
            await txn.graph.query(SENT)
        assert (await txn.graph.query("MATCH (a:Account) RETURN count(*)")) == [[6]]
    async with coordinator.transaction(read_only=True) as txn:
        assert await txn.sqlite.fetch("SELECT sum(balance) FROM accounts") == [(6007,)]
        assert await txn.redis.read("LRANGE", "list", 0, -1) == ["a", "b"]


@both_arms
@kuzu_only
async def test_own_writes_are_seen_on_top_of_a_newer_state_only_when_earlier_reads_hold(place: Place) -> None:
    """Reading its own rows moves a transaction to the newest commit, or aborts it."""
    coordinator = await opened(place)

    async def body(txn: Any) -> None:
        await txn.sqlite.fetch(READ, (0,))
        txn.sqlite.execute(WRITE, (5, 1))
        await write(coordinator, lambda other: other.sqlite.execute(WRITE, (1, 0)))
        await txn.sqlite.fetch(READ, (1,))

    with pytest.raises(TransactionAborted, match="conflict"):
        await run(coordinator, body, isolation="snapshot")


@kuzu_only
async def test_what_is_acknowledged_is_seen_by_whoever_begins_later(place: Place) -> None:
    """A reader that begins after an answer finds the transaction in every store, although they are still behind."""
    gate = asyncio.Event()

    async def hook(name: str, token: str | None, store: str | None) -> None:
        if name in ("redis.applying", "graph.applying"):
            await gate.wait()

    coordinator = await opened(place, hook)
    coordinator._acknowledge = "durable"
    csn = await write(coordinator, lambda txn: txn.redis.command("SET", "step", 1))

    async def read() -> Any:
        async with coordinator.transaction(read_only=True) as txn:
            return await txn.redis.get("step"), txn.view.csn

    reading = asyncio.create_task(read())

    async def waiting() -> bool:
        return bool(coordinator._appliers[0]._waiting)

    await until(waiting)
    gate.set()
    assert await reading == ("1", csn)


@kuzu_only
async def test_old_values_are_kept_while_they_are_needed_and_no_longer(place: Place) -> None:
    """With nobody reading nothing is kept; what was kept for a snapshot goes when it is closed."""
    coordinator = await opened(place)
    store = coordinator._stores.redis

    async def kept() -> list[str]:
        return sorted(key for key in await store.execute("KEYS", "chaos:~*") if key != "chaos:~filling")

    await write(coordinator, lambda txn: txn.redis.command("SET", "a", 1))
    assert await kept() == []
    async with coordinator.transaction(read_only=True) as txn:
        assert await txn.redis.get("a") == "1"
        for value in range(2, 6):
            await write(coordinator, lambda other, value=value: other.redis.command("SET", "a", value))
        assert len(await kept()) == 2
        assert await txn.redis.get("a") == "1"

    async def gone() -> bool:
        return await kept() == []

    await until(gone)


@kuzu_only
async def test_a_value_that_is_too_large_to_keep_is_a_conflict(place: Place) -> None:
    """A reader of an old value that was not copied is told to begin anew."""
    coordinator = await opened(place)
    await write(coordinator, lambda txn: txn.redis.command("SET", "a", "x" * 100_000))

    async def body(txn: Any) -> None:
        await txn.redis.get("balance:0")
        await write(coordinator, lambda other: other.redis.command("SET", "a", "y"))
        await txn.redis.get("a")

    with pytest.raises(TransactionAborted, match="too large") as caught:
        await run(coordinator, body, read_only=True)
    assert caught.value.retryable


@both_arms
@kuzu_only
async def test_a_redis_that_lost_everything_loses_its_snapshots(place: Place) -> None:
    """After the server was filled again a reader of an older snapshot never gets a newer value."""
    coordinator = await opened(place)
    await write(coordinator, lambda txn: txn.redis.command("SET", "a", 1))
    seen: list[str | None] = []

    async def filled() -> bool:
        return await coordinator._stores.redis.execute("GET", "a") == "2"

    async def body(txn: Any) -> None:
        await txn.sqlite.fetch("SELECT 1 FROM accounts")
        await write(coordinator, lambda other: other.redis.command("SET", "a", 2))
        await coordinator._stores.redis.execute("FLUSHALL")
        await until(filled)
        seen.append(await txn.redis.get("a"))

    with suppress(TransactionAborted):
        await run(coordinator, body, read_only=True, deadline_s=10)
    assert seen in ([], ["1"]), "filled again past the snapshot, what it saw may be kept, or not"


@both_arms
@kuzu_only
async def test_a_snapshot_that_is_too_old_cannot_commit(place: Place) -> None:
    """When more has been committed since than is remembered, nobody can say that there was no conflict."""
    coordinator = await opened(place)
    coordinator._leader.window._commits_max = 3

    async def body(txn: Any) -> None:
        await txn.redis.get("balance:0")
        for number in range(5):
            await write(coordinator, lambda other, number=number: other.redis.command("SET", "b", number))
        txn.redis.command("SET", "a", 1)

    with pytest.raises(TransactionAborted, match="too old") as caught:
        await run(coordinator, body)
    assert caught.value.retryable


@both_arms
@kuzu_only
async def test_snapshots_are_shared_and_closed(place: Place) -> None:
    """Readers at the same time share one snapshot; nothing stays open when they have gone, or were cancelled."""
    coordinator = await opened(place)

    async def read(waits: asyncio.Event) -> Any:
        async with coordinator.transaction(read_only=True) as txn:
            await txn.sqlite.fetch(READ, (0,))
            await waits.wait()
            return txn.view._snapshot

    event = asyncio.Event()
    tasks = [asyncio.create_task(read(event)) for _ in range(10)]

    async def open_now() -> bool:
        return sum(one.users for one in coordinator._snapshots._open) == 10

    await until(open_now)
    event.set()
    assert len(set(await asyncio.gather(*tasks))) == 1
    assert coordinator.snapshot_numbers() == set()
    tasks = [asyncio.create_task(read(event)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    async def none_open() -> bool:
        return coordinator.snapshot_numbers() == set() and coordinator._snapshots._opening.done()

    await until(none_open)


@both_arms
@kuzu_only
async def test_a_read_only_transaction_cannot_write(place: Place) -> None:
    """A write is refused where it is made."""
    coordinator = await opened(place)
    with pytest.raises(TypeError, match="read_only"):
        async with coordinator.transaction(read_only=True) as txn:
            txn.redis.command("SET", "a", 1)
