from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.errors import ChaosError, StoreInDoubt, StoreUnavailable
from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore, WriteTransaction
from chaos.transactions.commit_log import CommitLog, Fenced
from chaos.transactions.rows import AlreadyCommitted, RedoRow
from chaos.transactions.unit import Transaction

Opened = tuple[SQLiteStore, CommitLog]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """A store with an empty commit log."""
    store = SQLiteStore(tmp_path)
    await store.open()
    log = CommitLog(store)
    await log.create([])
    await log.take_over()
    yield store, log
    await store.close()


def unit(tmp_path: Path, token: str) -> Transaction:
    """Return a transaction with one Redis command."""
    made = Transaction(token, SQLiteStore(tmp_path), RedisStore("127.0.0.1", 1), GraphStore(tmp_path, log=tmp_path))
    made.redis.command("SET", "k", token)
    return made


async def append(opened: Opened, tmp_path: Path, token: str) -> RedoRow:
    """Commit one transaction."""
    store, log = opened
    async with store.write() as transaction:
        [row] = await log.append(transaction, [unit(tmp_path, token)])
        if isinstance(row, ChaosError):
            raise row
        await transaction.commit()
    log.committed(row)
    return row


async def test_numbers_follow_each_other(opened: Opened, tmp_path: Path) -> None:
    """Each row has the next number and knows the one before; the log returns them in order."""
    rows = [await append(opened, tmp_path, f"t{n}") for n in range(3)]
    assert [(row.csn, row.previous) for row in rows] == [(1, 0), (2, 1), (3, 2)]
    assert await opened[1].after(1) == rows[1:]
    assert await opened[1].csn_of("t1") == 2
    assert await opened[1].csn_of("t9") is None
    assert await opened[1].count_up_to(2) == 2


async def test_a_token_has_one_place(opened: Opened, tmp_path: Path) -> None:
    """Appending a token again names the number that it has."""
    await append(opened, tmp_path, "t0")
    with pytest.raises(AlreadyCommitted) as caught:
        await append(opened, tmp_path, "t0")
    assert caught.value.csn == 1


async def test_a_later_owner_fences_the_one_before(opened: Opened, tmp_path: Path) -> None:
    """After another has taken over, neither committing nor taking over again works for the one before."""
    store, log = opened
    await CommitLog(store).take_over()
    with pytest.raises(Fenced):
        await append(opened, tmp_path, "t0")
    with pytest.raises(Fenced):
        await log.take_over()
    assert await log.csn_of("t0") is None


async def test_the_same_owner_may_take_over_again(opened: Opened, tmp_path: Path) -> None:
    """After reopening the store the same log goes on, and knows the last number."""
    store, log = opened
    await append(opened, tmp_path, "t0")
    log.last_csn = 0
    await store.reopen(log.take_over)
    assert log.last_csn == 1
    assert (await append(opened, tmp_path, "t1")).csn == 2


async def test_a_number_that_a_store_has_seen_is_never_given_out(opened: Opened, tmp_path: Path) -> None:
    """When a store is ahead of the log, which then has lost rows, numbers go on behind the store's."""
    await append(opened, tmp_path, "t0")
    opened[1].raise_floor(7)
    row = await append(opened, tmp_path, "t1")
    assert (row.csn, row.previous) == (8, 1)


async def test_rows_go_when_two_bases_of_each_store_hold_them(opened: Opened, tmp_path: Path) -> None:
    """What stores have applied purges nothing; two durable bases of every store purge the rows of the oldest."""
    _, log = opened
    for number in range(6):
        await append(opened, tmp_path, f"t{number}")
    log.raise_floor(6)
    left = []
    for store, csn in (("graph", 2), ("graph", 4), ("redis", 3), ("graph", 5), ("redis", 6)):
        await log.add_base(store, csn, f"{store}-{csn}")
        left.append([row.csn for row in await log.after(0)])
    assert left == [[1, 2, 3, 4, 5, 6]] * 4 + [[4, 5, 6]]
    assert await log.beginnings("graph") == [(5, "graph-5"), (4, "graph-4")]
    assert await log.beginnings("redis") == [(6, "redis-6"), (3, "redis-3")]
    assert await log.csn_of("t0") == 1, "outcomes are never purged"


async def test_a_store_without_a_beginning_says_so(opened: Opened, tmp_path: Path) -> None:
    """When rows are gone that nothing else holds, no beginning is offered: an incomplete store would look whole."""
    store, log = opened
    for number in range(3):
        await append(opened, tmp_path, f"t{number}")
    assert await log.beginnings("redis") == [(0, None)]
    async with store.write() as transaction:
        await transaction.execute("DELETE FROM redo WHERE csn = 1")
        await transaction.commit()
    with pytest.raises(StoreUnavailable, match="cannot be made anew"):
        await log.beginnings("redis")


async def test_a_seal_is_good_for_one_process(opened: Opened) -> None:
    """Whoever takes over breaks the seal, and learns of it once; the owner before cannot seal any more."""
    store, log = opened
    await log.seal("graph", "abc")
    second = CommitLog(store)
    await second.take_over()
    assert (second.take_seal("graph"), second.take_seal("graph")) == ("abc", None)
    with pytest.raises(Fenced):
        await log.seal("graph", "late")
    third = CommitLog(store)
    await third.take_over()
    assert third.take_seal("graph") is None


async def test_a_note_in_doubt_opens_the_store_again(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the commit of a note fails in doubt, the caller hears of it, and the store is usable again."""
    store, log = opened

    async def fail(transaction: WriteTransaction) -> None:
        store.halt("planted")
        raise StoreInDoubt("sqlite", "planted")

    with monkeypatch.context() as patched:
        patched.setattr(WriteTransaction, "commit", fail)
        patched.setattr(log, "take_over", lambda: asyncio.sleep(0))
        with pytest.raises(StoreInDoubt):
            await log.trust("redis", "abc")
    assert store.halted is None
    assert await log.trusted("redis") is None
    await log.trust("redis", "abc")
    assert await log.trusted("redis") == "abc"
