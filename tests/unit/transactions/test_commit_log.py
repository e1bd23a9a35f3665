from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import ChaosError
from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.commit_log import AlreadyCommitted, CommitLog, Fenced, RedoRow
from chaos.transactions.unit import Transaction

Opened = tuple[SQLiteStore, CommitLog]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """A store with an empty commit log that keeps 5 rows at least."""
    store = SQLiteStore(tmp_path)
    await store.open()
    log = CommitLog(store, retained_rows=5)
    await log.create([])
    await log.take_over()
    yield store, log
    await store.close()


def unit(tmp_path: Path, token: str) -> Transaction:
    """Return a transaction with one Redis command."""
    made = Transaction(token, SQLiteStore(tmp_path), RedisStore("127.0.0.1", 1), GraphStore(tmp_path, log=tmp_path))
    made.redis.command("SET", "k", token)
    return made


async def append(opened: Opened, tmp_path: Path, token: str, applied: int = 0) -> RedoRow:
    """Commit one transaction."""
    store, log = opened
    async with store.write() as transaction:
        [row] = await log.append(transaction, [unit(tmp_path, token)], applied)
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


async def test_old_rows_go_when_every_store_has_them(opened: Opened, tmp_path: Path) -> None:
    """At every thousandth number the rows that are applied everywhere are dropped, except the newest few."""
    _, log = opened
    log.raise_floor(989)
    rows: list[Any] = [await append(opened, tmp_path, f"t{n}", applied=999) for n in range(11)]
    assert [row.csn for row in rows] == list(range(990, 1001))
    assert [row.csn for row in await log.after(0)] == [995, 996, 997, 998, 999, 1000]
    assert log.complete is False
    await log.take_over()
    assert log.complete is False
    assert await log.csn_of("t0") == 990
