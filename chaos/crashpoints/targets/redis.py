"""A Redis-compatible server with its append-only file, at every level of `appendfsync`.

Each transaction is one MULTI ... EXEC of a few keys. The workload begins with a server that was stopped in peace. With
`rewrite=yes` the log is rewritten in the middle, which makes a new base file and a new manifest and deletes the old
ones; the base file is written through stdio, so that needs a shim that sees stdio, and gives no verdict without. With
`everysec` and `no` the server acknowledges before it syncs, and says so; power loss must then lose acknowledged
transactions, and no more than that.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chaos.backends.redis_server import find_server
from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.targets import entries
from chaos.crashpoints.targets.base import BuiltIn, text_of
from chaos.crashpoints.targets.forked import Server, ServerEnded

_POLL_S = 0.002
_WAIT_S = 5.0
_COUNTER, _ORDER = "counter", "order"


class _Server:
    """A server that never rewrites its log by itself, and a client of it."""

    def __init__(self, data: Path, appendfsync: str) -> None:
        """Start it and wait until it serves. Raises ServerEnded."""
        self._process = Server(data, appendfsync, data.with_name("server.log"), rewrites=False)
        self._process.wait()
        self.client = redis.Redis(
            host="127.0.0.1",
            port=self._process.port,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=_WAIT_S,
            decode_responses=True,
        )

    def stop(self) -> None:
        """End it in peace; it syncs its log."""
        self.client.close()
        self._process.stop()

    def wait_rewritten(self) -> None:
        """Wait until no rewrite of the log is under way."""
        pause = threading.Event()
        while True:
            info: Any = self.client.info("persistence")
            if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
                return
            pause.wait(_POLL_S)


class RedisTarget(BuiltIn):
    """One server and one client."""

    name: ClassVar[str] = "redis"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "appendfsync": ("always", "everysec", "no"),
        "rewrite": ("no", "yes"),
        "transactions": (),
    }
    thorough_every: int = 4
    prepared: tuple[str, ...] = (entries.SCHEMA,)

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when there is no server."""
        find_server()

    def preload(self, folder: Path) -> None:
        """Import what finding a server and looking up an address import."""
        importlib.import_module("encodings.idna")
        find_server()

    def prepare(self, data: Path) -> None:
        """Let a server make its files, and the counter, and stop it."""
        server = self._start(data)
        server.client.set(_COUNTER, 1)
        server.stop()

    def work(self, data: Path, teller: Teller) -> None:
        """Commit, perhaps rewrite the log in the middle, commit on, stop."""
        server = self._start(data)
        for number in range(1, self.count + 1):
            if number == self.count // 2 and self.options["rewrite"] == "yes":
                teller.phase("rewrite of the log")
                server.client.bgrewriteaof()
                server.wait_rewritten()
                teller.phase("after the rewrite")
            if not entries.is_given_up(number):
                self.attempt(functools.partial(self._transact, server, number, teller))
        teller.phase("stop")
        self.attempt(server.stop)

    def recover(self, data: Path, teller: Teller) -> None:
        """Start on what is there, write one more transaction, stop."""
        server = self._start(data)
        self._transact(server, entries.next_number(_look(server.client)), teller)
        server.stop()

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Start, read everything; when `thorough`, write, stop, start and read again."""
        try:
            server = self._start(data)
        except ServerEnded as error:
            return Observation(refused=str(error))
        try:
            seen = _look(server.client)
        except RedisError as error:
            return Observation(problems=(f"reading: {text_of(error)}",))
        if seen.problems or seen.partial or not seen.found or not thorough:
            return seen
        stuck = self._go_on(server, data, seen)
        return seen if stuck is None else Observation(found=seen.found, counter=seen.counter, stuck=stuck)

    def _go_on(self, server: _Server, data: Path, seen: Observation) -> str | None:
        number = entries.next_number(seen)
        try:
            _write(server.client, number)
            server.stop()
            again = _look(self._start(data).client)
        except (RedisError, ServerEnded) as error:
            return text_of(error)
        if again.problems or again.partial or set(again.found) != {*seen.found, str(number)}:
            return f"after writing {number}: {'; '.join(again.problems) or again.partial or sorted(again.found)}"
        return None

    def _start(self, data: Path) -> _Server:
        return _Server(data, self.options["appendfsync"])

    @staticmethod
    def _transact(server: _Server, number: int, teller: Teller) -> None:
        teller.begin(str(number))
        _write(server.client, number)
        teller.acknowledged(str(number))


def _write(client: redis.Redis, number: int) -> None:
    """Run one transaction; its reply means that it is acknowledged."""
    pipeline = client.pipeline(transaction=True)
    for _, part, payload in entries.rows(number):
        pipeline.hset(f"entry:{number}", str(part), payload)
    pipeline.rpush(_ORDER, number)
    pipeline.incr(_COUNTER)
    pipeline.execute()


def _look(client: redis.Redis) -> Observation:
    """Read all keys, and the list that names the transactions in their order."""
    keys: Any = client.keys("*")
    if not keys:
        return Observation()
    found: list[tuple[int, int, str]] = []
    for key in keys:
        if key.startswith("entry:"):
            row: Any = client.hgetall(key)
            found += [(int(key.partition(":")[2]), int(part), payload) for part, payload in row.items()]
    counter: Any = client.get(_COUNTER)
    seen = entries.sorted_out(found, int(counter or 0))
    order: Any = client.lrange(_ORDER, 0, -1)
    numbers = sorted(int(name) for name in seen.found if name != entries.SCHEMA)
    if [int(number) for number in order] != numbers and not seen.partial:
        problem = f"the list names {order}, and the keys {numbers}"
        return Observation(found=seen.found, counter=seen.counter, problems=(*seen.problems, problem))
    return seen
