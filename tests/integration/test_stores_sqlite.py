from __future__ import annotations

import asyncio
import resource
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.errors import StoreInDoubt, StoreUnavailable
from chaos.stores.sqlite import ConstraintViolated, SQLiteStore

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """An open store with an empty table t(x)."""
    store = SQLiteStore(tmp_path, checkpoint_bytes=100_000)
    await store.open()
    await put(store, "CREATE TABLE t(x INTEGER PRIMARY KEY, y BLOB)")
    yield store
    await store.close()


async def put(store: SQLiteStore, sql: str, *parameters: object) -> None:
    """Run one statement in a transaction of its own."""
    async with store.write() as transaction:
        await transaction.execute(sql, parameters)  # type: ignore[arg-type]
        await transaction.commit()


async def count(store: SQLiteStore) -> int:
    """Return how many rows the readers see."""
    [(number,)] = await store.fetch("SELECT count(*) FROM t")
    return int(number)


async def wait_for_threads(expected: set[threading.Thread]) -> None:
    """Wait until no other threads run; one that has just done its last work may need a moment to end."""
    async with asyncio.timeout(5):
        while set(threading.enumerate()) - expected:
            await asyncio.sleep(0)


async def test_committed_rows_are_seen_by_readers(store: SQLiteStore) -> None:
    """A row is visible to a reader after the commit and not before."""
    async with store.write() as transaction:
        await transaction.execute("INSERT INTO t(x) VALUES (1)")
        assert await count(store) == 0
        await transaction.commit()
    assert await count(store) == 1


async def test_leaving_the_block_rolls_back(store: SQLiteStore) -> None:
    """A transaction that is not committed leaves nothing, and the next one can begin."""
    async with store.write() as transaction:
        await transaction.execute("INSERT INTO t(x) VALUES (1)")
    await put(store, "INSERT INTO t(x) VALUES (2)")
    assert await store.fetch("SELECT x FROM t") == [(2,)]


async def test_settings_are_as_documented(store: SQLiteStore) -> None:
    """The log is written ahead, synced in full, never checkpointed by SQLite itself, and readers cannot write."""
    async with store.write() as transaction:
        values = [
            (await transaction.fetch(f"PRAGMA {name}"))[0][0]
            for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "mmap_size")
        ]
    assert values == ["wal", 2, 0, 0]
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.fetch("INSERT INTO t(x) VALUES (1)")


async def test_a_constraint_has_its_own_error(store: SQLiteStore) -> None:
    """A broken constraint is told apart, and the transaction is gone."""
    await put(store, "INSERT INTO t(x) VALUES (1)")
    with pytest.raises(ConstraintViolated):
        await put(store, "INSERT INTO t(x) VALUES (1)")
    assert await count(store) == 1


async def test_cancelled_writer_releases_the_write_lock(store: SQLiteStore, tmp_path: Path) -> None:
    """A task cancelled inside a transaction rolls it back, and neither we nor another process is locked out."""
    begun = asyncio.Event()

    async def write() -> None:
        async with store.write() as transaction:
            await transaction.execute("INSERT INTO t(x) VALUES (1)")
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await begun.wait()
    task.cancel()
    await asyncio.wait({task})
    other = SQLiteStore(tmp_path)
    await other.open()
    await put(other, "INSERT INTO t(x) VALUES (2)")
    await other.close()
    await put(store, "INSERT INTO t(x) VALUES (3)")
    assert await store.fetch("SELECT x FROM t ORDER BY x") == [(2,), (3,)]


async def test_cancelled_begin_does_not_keep_the_lock(store: SQLiteStore) -> None:
    """Cancelled at every single step of a transaction, the store still takes the next one."""
    for steps in range(40):
        task = asyncio.create_task(put(store, "INSERT INTO t(x) VALUES (?)", steps))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    before = await count(store)
    await put(store, "INSERT INTO t(x) VALUES (1000)")
    assert await count(store) == before + 1


async def test_cancelled_reader_is_interrupted_and_lent_again(tmp_path: Path) -> None:
    """A cancelled endless query frees its connection at once."""
    store = SQLiteStore(tmp_path, readers=1)
    await store.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await store.fetch(ENDLESS)
    async with asyncio.timeout(5):
        assert await store.fetch("SELECT 1") == [(1,)]
    await store.close()


async def test_a_lock_held_elsewhere_is_told_soon(store: SQLiteStore, tmp_path: Path) -> None:
    """When another process holds the write lock, beginning fails after the busy timeout, certainly without effect."""
    other = SQLiteStore(tmp_path, busy_timeout_s=0.05)
    await other.open()
    async with store.write():
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="BUSY"):
            await put(other, "INSERT INTO t(x) VALUES (1)")
        assert time.monotonic() - began < 2
    await other.close()


def insert(connection: sqlite3.Connection) -> int:
    """Write one row; return how many."""
    return connection.execute("INSERT INTO t(x) VALUES (1)").rowcount


async def test_a_commit_may_follow_in_the_same_hop(store: SQLiteStore) -> None:
    """The rows and COMMIT in one hop, when the result says so; `commit` then adds nothing, and else it is undone."""
    async with store.write() as transaction:
        assert await transaction.run(insert, commit_if=lambda count: count == 1) == 1
        assert transaction.committed
        assert await count(store) == 1
        await transaction.commit()
    await put(store, "DELETE FROM t")
    async with store.write() as transaction:
        await transaction.run(insert, commit_if=lambda count: count == 2)
        assert not transaction.commit_called
    assert await count(store) == 0


@pytest.mark.parametrize("in_one_hop", [False, True])
async def test_a_failed_write_at_commit_is_in_doubt_and_halts(
    store: SQLiteStore, tmp_path: Path, in_one_hop: bool
) -> None:
    """An I/O error inside COMMIT leaves the outcome open; nothing is served until the file is read anew."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "main.db-wal").stat().st_size
    try:
        async with store.write() as transaction:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
            await transaction.run(insert, commit_if=lambda _: in_one_hop)
            with pytest.raises(StoreInDoubt, match="COMMIT"):
                await transaction.commit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(StoreUnavailable, match="halted"):
        await store.fetch("SELECT 1")
    with pytest.raises(StoreUnavailable, match="halted"):
        await put(store, "INSERT INTO t(x) VALUES (2)")
    await store.reopen()
    assert await count(store) in (0, 1)
    await put(store, "INSERT INTO t(x) VALUES (3)")
    assert (3,) in await store.fetch("SELECT x FROM t")


async def test_a_full_database_is_certain(store: SQLiteStore) -> None:
    """SQLITE_FULL means gone, not in doubt; the store goes on."""
    assert store._writer is not None
    await store._writer.execute_fetchall("PRAGMA max_page_count=3")
    with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
        await put(store, "INSERT INTO t VALUES (1, zeroblob(100000))")
    assert store.halted is None
    await put(store, "INSERT INTO t(x) VALUES (2)")
    assert await store.fetch("SELECT x FROM t") == [(2,)]


async def test_the_writer_checkpoints_when_the_log_has_grown(store: SQLiteStore, tmp_path: Path) -> None:
    """The log is copied into the database once it is larger than the bound, and not before."""
    assert await store.checkpoint_if_due() is False
    await put(store, "INSERT INTO t VALUES (1, zeroblob(200000))")
    before = (tmp_path / "main.db").stat().st_size
    assert await store.checkpoint_if_due() is True
    assert (tmp_path / "main.db").stat().st_size > before


async def test_a_log_that_was_checkpointed_is_not_due_again_before_it_has_grown_anew(store: SQLiteStore) -> None:
    """SQLite begins the log anew and keeps its file, whose size would say for ever that it is due."""
    await put(store, "INSERT INTO t VALUES (1, zeroblob(200000))")
    assert await store.checkpoint_if_due() is True
    await put(store, "INSERT INTO t(x) VALUES (2)")
    assert await store.checkpoint_if_due() is False
    await put(store, "INSERT INTO t VALUES (3, zeroblob(200000))")
    assert await store.checkpoint_if_due() is True


async def test_closing_ends_every_thread(tmp_path: Path) -> None:
    """Each connection has a thread that would keep the process from ending; close ends them all."""
    threads = set(threading.enumerate())
    store = SQLiteStore(tmp_path, readers=3)
    await store.open()
    assert len(set(threading.enumerate()) - threads) == 4
    await store.close()
    await store.close()
    await wait_for_threads(threads)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Opening garbage raises and leaves no thread behind."""
    (tmp_path / "main.db").write_bytes(b"garbage" * 1000)
    threads = set(threading.enumerate())
    store = SQLiteStore(tmp_path)
    with pytest.raises(StoreUnavailable, match="NOTADB"):
        await store.open()
    await wait_for_threads(threads)


async def test_a_reader_is_refused_while_the_store_is_opened(store: SQLiteStore) -> None:
    """Before the readers are connected a request is refused; it would wait for ever if the opening failed."""
    answers: list[BaseException | None] = []

    async def ask() -> None:
        async with asyncio.timeout(2):
            await store.fetch("SELECT 1")

    async def fail() -> None:
        answers.extend(await asyncio.gather(ask(), return_exceptions=True))
        raise StoreUnavailable("sqlite", "planted")

    with pytest.raises(StoreUnavailable, match="planted"):
        await store.reopen(fail)
    assert [type(answer) for answer in answers] == [StoreUnavailable]
    await store.reopen()
    assert await count(store) == 0


async def test_closing_ends_those_who_wait_for_a_reader(tmp_path: Path) -> None:
    """Requests that wait for a connection are told when the store is closed, all of them."""
    store = SQLiteStore(tmp_path, readers=1)
    await store.open()
    await store._readers.acquire()  # the only connection is away and does not come back
    waiting = [asyncio.create_task(store.fetch("SELECT 1")) for _ in range(3)]
    await asyncio.sleep(0)
    await store.close()
    done, late = await asyncio.wait(waiting, timeout=2)
    for task in late:
        task.cancel()
    assert [type(task.exception()) for task in done] == [StoreUnavailable] * 3


@pytest.mark.parametrize("in_one_hop", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_commit_is_judged_like_any_other(
    store: SQLiteStore, tmp_path: Path, fails: bool, in_one_hop: bool
) -> None:
    """Cancelled inside COMMIT, a task still notes whether it took effect, and a failed one halts the store."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "main.db-wal").stat().st_size
    cause: BaseException | None = None
    committed: bool | None = None

    async def work() -> None:
        nonlocal cause, committed
        async with store.write() as transaction:
            if not in_one_hop:
                await transaction.run(insert)
            if fails:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
            this = asyncio.current_task()
            assert this is not None
            this.cancel()  # raised at the next await, which is inside the commit
            try:
                if in_one_hop:
                    await transaction.run(insert, commit_if=bool)
                await transaction.commit()
            except asyncio.CancelledError as error:
                cause, committed = error.__cause__, transaction.committed
                raise

    task = asyncio.create_task(work())
    try:
        await asyncio.wait({task})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert task.cancelled()
    assert committed is not fails
    assert isinstance(cause, StoreInDoubt) is fails
    assert (store.halted is not None) is fails
    if fails:
        await store.reopen()
    await put(store, "INSERT INTO t(x) VALUES (2)")
    assert (2,) in await store.fetch("SELECT x FROM t")
    assert fails or (1,) in await store.fetch("SELECT x FROM t")


async def test_a_damaged_database_is_not_opened(store: SQLiteStore, tmp_path: Path) -> None:
    """A page that is no page any more is found when the file is opened, not when somebody reads it at last."""
    await put(store, "INSERT INTO t(x) VALUES (1)")
    await store.checkpoint("TRUNCATE")
    await store.close()
    file = tmp_path / "main.db"
    found = bytearray(file.read_bytes())
    found[4096:4112] = bytes(byte ^ 0xFF for byte in found[4096:4112])
    file.write_bytes(found)
    with pytest.raises(StoreUnavailable, match="damaged"):
        await store.open()
