"""The coordinator without the harness, as the how-to shows it."""

from __future__ import annotations

import asyncio
import gc
import re
import weakref
from pathlib import Path
from typing import Any

import pytest

from chaos import transactions
from chaos.backends.redis_server import RedisServer, find_server
from chaos.transactions.unit import TransactionEnded

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/use-the-coordinator.md"

pytestmark = pytest.mark.requires("redis", "kuzu")


@pytest.fixture
async def port(tmp_path: Path) -> Any:
    """The port of a server of the test's own."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    await server.start()
    yield server.port
    await server.stop()


async def test_the_example_of_the_how_to_runs(port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The code on the page commits ten users in all stores; run again on the same folder it changes nothing."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    for _ in range(2):
        await names["main"](tmp_path / "data", port)
        assert capsys.readouterr().out == "[(10,)] 10\n"


@pytest.mark.parametrize("arm", ["redo", "epoxy", "naive"])
async def test_each_arm_commits_in_every_store(port: int, tmp_path: Path, arm: Any) -> None:
    """A transaction without faults ends the same whichever arm runs it."""
    schema = transactions.Genesis(
        sqlite_schema=("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY)",),
        graph_schema=("CREATE NODE TABLE IF NOT EXISTS T(id INT64, PRIMARY KEY(id))",),
        rows=transactions.Writes(),
    )
    async with transactions.open(tmp_path / "data", redis=("127.0.0.1", port), schema=schema, arm=arm) as coordinator:
        async with coordinator.transaction() as txn:
            txn.sqlite.execute("INSERT INTO t VALUES (1)")
            txn.redis.command("SET", "t", 1)
            txn.graph.execute("CREATE (:T {id: $id})", {"id": 1})
        assert (txn.csn, txn.applied) == (1, True)
        async with coordinator.transaction() as txn:
            assert await txn.sqlite.fetch("SELECT id FROM t") == [(1,)]
            assert await txn.redis.get("t") == "1"
            assert await txn.graph.query("MATCH (t:T) RETURN t.id", {}) == [[1]]


async def test_acknowledged_when_durable(port: int, tmp_path: Path) -> None:
    """Under that policy an answer does not wait for the other stores, which follow."""
    schema = transactions.Genesis(sqlite_schema=(), graph_schema=(), rows=transactions.Writes())
    data = tmp_path / "data"
    async with transactions.open(data, redis=("127.0.0.1", port), schema=schema, acknowledge="durable") as coordinator:
        for n in range(20):
            async with coordinator.transaction() as txn:
                txn.redis.command("INCRBY", "n", 1)
            assert txn.csn == n + 1
    async with (
        transactions.open(data, redis=("127.0.0.1", port), schema=schema) as coordinator,
        coordinator.transaction() as txn,
    ):
        assert await txn.redis.get("n") == "20"


async def test_rows_for_which_nobody_waits_are_gathered(port: int, tmp_path: Path) -> None:
    """They stay until somebody reads, or until a batch is full; then they are applied at once, all of them."""
    schema = transactions.Genesis(sqlite_schema=(), graph_schema=(), rows=transactions.Writes())
    data = tmp_path / "data"
    async with transactions.open(data, redis=("127.0.0.1", port), schema=schema, acknowledge="durable") as coordinator:
        redis: Any = coordinator._appliers[0]  # type: ignore[union-attr]
        redis._gather_s = 1000.0
        for _ in range(3):
            async with coordinator.transaction() as txn:
                txn.redis.command("INCRBY", "n", 1)
        assert (txn.csn, redis.applied) == (3, 0)
        async with coordinator.transaction(read_only=True) as txn:
            assert await txn.redis.get("n") == "3"
        for _ in range(redis.secondary.batch_max):
            async with coordinator.transaction() as txn:
                txn.redis.command("INCRBY", "n", 1)
        async with asyncio.timeout(20):
            while redis.applied < txn.csn:
                await asyncio.sleep(0)


async def test_a_transaction_that_has_ended(port: int, tmp_path: Path) -> None:
    """Its handles refuse, and it is no garbage: it goes when the last reference to it does."""
    schema = transactions.Genesis(sqlite_schema=(), graph_schema=(), rows=transactions.Writes())
    async with transactions.open(tmp_path / "data", redis=("127.0.0.1", port), schema=schema) as coordinator:

        async def one() -> Any:
            async with coordinator.transaction() as txn:
                txn.redis.command("SET", "k", "v")
            for use in (lambda: txn.redis.command("SET", "k", "w"), lambda: txn.graph.execute("CREATE (:A)", {})):
                with pytest.raises(TransactionEnded):
                    use()
            return weakref.ref(txn)

        gc.disable()
        try:
            gone = [await one() for _ in range(5)]
            assert [ref() for ref in gone[:-1]] == [None] * 4, "the leader may still have the last one"
        finally:
            gc.enable()
