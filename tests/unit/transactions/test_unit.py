from __future__ import annotations

from pathlib import Path

import pytest

from chaos.stores.graph import GraphStore
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.rows import write_set
from chaos.transactions.unit import Transaction


@pytest.fixture
async def unit(tmp_path: Path) -> Transaction:
    """A transaction over stores that are not open: buffering needs none."""
    graph = GraphStore(tmp_path, log=tmp_path / "log")
    return Transaction("t0", SQLiteStore(tmp_path), RedisStore("127.0.0.1", 1), graph)


async def test_writes_are_kept_in_order_and_sent_nowhere(unit: Transaction) -> None:
    """The logged write set has the commands as text and the statements with their parameters, in order."""
    unit.redis.command("INCRBY", "a", -3)
    unit.redis.command("RPUSH", "b", "x y")
    unit.graph.execute("CREATE (:Thing {id: $id})", {"id": 1})
    unit.sqlite.execute("INSERT INTO t VALUES (?)", [7])
    writes = write_set(unit)
    assert writes.redis == [["INCRBY", "a", "-3"], ["RPUSH", "b", "x y"]]
    assert writes.graph == [("CREATE (:Thing {id: $id})", {"id": 1})]
    assert unit.sqlite.writes == [("INSERT INTO t VALUES (?)", (7,))]


@pytest.mark.parametrize("name", ["EVAL", "SPOP", "INCRBYFLOAT", "FLUSHALL", "incrby"])
async def test_commands_that_cannot_be_replayed_are_refused(unit: Transaction, name: str) -> None:
    """A command whose effect depends on chance, time or a script is refused when it is buffered."""
    with pytest.raises(ValueError, match="must be one of"):
        unit.redis.command(name, "k")
    assert unit.redis.writes == []
