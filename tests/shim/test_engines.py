"""Proof that the stores' own file calls pass the shim: what each engine does is counted, and an error reaches it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from engine_support import Server, server_program

GRAPH = """
import importlib, sys
engine = importlib.import_module(sys.argv[1])
database = engine.Database(sys.argv[2] + "/graph.db", buffer_pool_size=64 << 20, max_db_size=1 << 30)
connection = engine.Connection(database)
connection.execute("CREATE NODE TABLE IF NOT EXISTS t (x INT64, PRIMARY KEY (x))")
connection.execute("CREATE (:t {x: 1})")
connection.execute("CHECKPOINT")
connection.close(); database.close()
print("done")
"""

SQLITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[2] + "/main.db", isolation_level=None)
db.execute("CREATE TABLE t (x)")
db.execute("INSERT INTO t VALUES (1)")
print("done")
"""

ENGINES = [
    pytest.param("sqlite3", SQLITE, ("open", "read", "write", "sync", "unlink", "close"), id="sqlite3"),
    pytest.param(
        "kuzu",
        GRAPH,
        ("open", "read", "write", "sync", "truncate", "unlink", "close"),
        id="kuzu",
        marks=pytest.mark.requires("kuzu"),
    ),
    pytest.param(
        "ladybug",
        GRAPH,
        ("open", "read", "write", "sync", "truncate", "rename", "unlink", "close"),
        id="ladybug",
        marks=pytest.mark.requires("ladybug"),
    ),
]


@pytest.mark.parametrize(("engine", "code", "families"), ENGINES)
def test_engine_is_interposed(sandbox, engine: str, code: str, families: tuple[str, ...]) -> None:
    """Each family of calls that the engine is known to make is seen at least once on its files."""
    for family in families:
        sandbox.arm("count", family, rule_id=family)
    done = sandbox.python(code, engine, sandbox.store)
    assert done.stdout == "done\n", done.stderr
    counts = {family: sandbox.disarm(family)["calls_counted"] for family in families}
    assert all(counts.values()), counts


@pytest.mark.parametrize(("engine", "code", "families"), ENGINES)
def test_engine_feels_a_failed_sync(sandbox, engine: str, code: str, families: tuple[str, ...]) -> None:
    """When no sync succeeds, the engine cannot say that it is done."""
    sandbox.arm("errno", "sync", error="EIO")
    done = sandbox.run(sys.executable, "-c", code, engine, sandbox.store)
    assert done.stdout == ""
    assert done.returncode != 0
    assert sandbox.disarm()["calls_failed"] >= 1


@pytest.fixture
def server(sandbox) -> Iterator[Server]:
    """A running server, killed at the end."""
    with Server(sandbox, server_program()) as server:
        yield server


@pytest.mark.requires("redis")
def test_redis_is_interposed(sandbox, server: Server) -> None:
    """With appendfsync always each acknowledged write of the server is a write and a sync of its log."""
    assert sandbox.control.has_attached(server.process.pid)
    for family in ("write", "sync"):
        sandbox.arm("count", family, "store/appendonlydir/*.aof", rule_id=family)
    assert server.say("SET key 1") == "+OK"
    assert server.say("SET key 2") == "+OK"
    assert {family: sandbox.disarm(family)["calls_counted"] for family in ("write", "sync")} == {"write": 2, "sync": 2}


@pytest.mark.requires("redis")
def test_redis_gives_up_on_a_failed_sync(sandbox, server: Server) -> None:
    """With appendfsync always a server whose log cannot be synced ends rather than acknowledge."""
    sandbox.arm("errno", "sync", "store/appendonlydir/*.aof", error="EIO")
    assert server.say("SET key 1") != "+OK"
    assert server.process.wait(timeout=15) == 1
    assert sandbox.disarm()["calls_failed"] >= 1


@pytest.mark.requires("redis")
def test_kill_redis_at_its_log_write(sandbox, server: Server) -> None:
    """A server killed at the second write to its log acknowledged the first and not the second."""
    sandbox.arm("kill", "write", "store/appendonlydir/*.aof", nth=2, count=1)
    assert server.say("SET key 1") == "+OK"
    assert server.say("SET key 2") is None
    assert server.process.wait(timeout=15) == -9
    assert sandbox.disarm() == {"calls_matched": 2, "processes_killed": 1}
