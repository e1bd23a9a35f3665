from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chaos.backends.redis_server import RedisServer, find_server
from chaos.errors import StoreInDoubt, StoreUnavailable
from chaos.stores.redis import RedisStore, Script

pytestmark = pytest.mark.requires("redis")

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A running Redis-compatible server."""
    (tmp_path / "redis").mkdir()
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """A client of it."""
    store = RedisStore("127.0.0.1", server.port)
    yield store
    await store.close()


class Swallower:
    """Takes requests, counts those whose text has a word in it, and answers none: it stays silent or resets."""

    def __init__(self, word: bytes, *, reset: bool) -> None:
        self.word = word
        self.reset = reset
        self.count = 0
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        while data := await reader.read(65536):
            if self.word not in data:
                writer.write(b"+OK\r\n" * data.count(b"*"))  # the greeting of a new connection
                continue
            self.count += data.count(self.word)
            if self.reset:
                writer.transport.abort()
                return
        writer.close()


@asynccontextmanager
async def swallower(word: bytes, *, reset: bool) -> AsyncIterator[Swallower]:
    """Serve on a free port for as long as the block lasts."""
    one = Swallower(word, reset=reset)
    server = await asyncio.start_server(one.talk, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    async with server:
        yield one


async def test_commands_and_scripts_answer(store: RedisStore) -> None:
    """Text comes back as text, numbers as numbers, a missing key as None."""
    assert await store.execute("SET", "k", "v") == "OK"
    assert await store.execute("GET", "k") == "v"
    assert await store.execute("GET", "nothing") is None
    assert await store.evaluate(ADD, ("n",), (5,)) == 5


async def test_an_unknown_script_is_sent_in_full_and_runs_once(store: RedisStore) -> None:
    """After the server forgot its scripts, the next call still runs exactly once."""
    await store.evaluate(ADD, ("n",), (1,))
    await store.execute("SCRIPT", "FLUSH")
    assert await store.evaluate(ADD, ("n",), (1,)) == 2


async def test_a_refused_port_is_unavailable() -> None:
    """Where nobody listens, nothing was sent."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        store = RedisStore("127.0.0.1", reserved.getsockname()[1])
        with pytest.raises(StoreUnavailable, match="no connection"):
            await store.execute("PING")
        await store.close()


async def test_a_refused_command_is_unavailable(store: RedisStore) -> None:
    """An error reply means that the command had no effect."""
    await store.execute("SET", "k", "text")
    with pytest.raises(StoreUnavailable, match="INCRBY was refused"):
        await store.execute("INCRBY", "k", 1)
    assert await store.execute("GET", "k") == "text"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("word", [b"INCRBY", b"EVALSHA"])
async def test_a_lost_reply_is_in_doubt_and_never_sent_again(word: bytes, *, reset: bool) -> None:
    """With the reply lost, the request arrives exactly once, and the error says that it may have had its effect."""
    async with swallower(word, reset=reset) as peer:
        store = RedisStore("127.0.0.1", peer.port, timeout_s=0.2)
        with pytest.raises(StoreInDoubt, match="was sent"):
            await (store.execute("INCRBY", "n", 1) if word == b"INCRBY" else store.evaluate(ADD, ("n",), (1,)))
        await store.close()
        assert peer.count == 1


async def test_a_silent_server_costs_one_timeout() -> None:
    """A request to a server that hangs ends after its timeout, not after a number of retries."""
    async with swallower(b"INCRBY", reset=False) as peer:
        store = RedisStore("127.0.0.1", peer.port, timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(StoreInDoubt):
            await store.execute("INCRBY", "n", 1)
        assert 0.25 < time.monotonic() - began < 1.5
        await store.close()


async def test_a_killed_server_is_found_again(store: RedisStore, server: RedisServer) -> None:
    """Connections that died with the server are replaced after its restart, without an error."""
    await store.execute("SET", "k", "v")
    assert server.child is not None
    await server.child.kill()
    with pytest.raises((StoreUnavailable, StoreInDoubt)):
        await store.execute("PING")
    await server.start()
    assert await store.execute("GET", "k") == "v"


async def test_cancelled_requests_never_get_each_others_replies(store: RedisStore) -> None:
    """After requests cancelled at every step, each later reply belongs to its own request."""
    for steps in range(30):
        task = asyncio.create_task(store.execute("ECHO", f"cancelled {steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert await store.execute("ECHO", f"wanted {steps}") == f"wanted {steps}"


async def test_a_cancelled_task_always_ends(store: RedisStore) -> None:
    """A task that asks for ever ends when cancelled, whatever moment the cancellation meets."""

    async def ask() -> None:
        while True:
            await store.execute("PING")

    for steps in range(60):
        task = asyncio.create_task(ask())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=2)
        assert done == {task}


async def test_a_pool_that_is_used_up_is_unavailable(server: RedisServer) -> None:
    """When every connection is busy for longer than the timeout, the request was not sent."""
    store = RedisStore("127.0.0.1", server.port, connections=1, timeout_s=0.3)
    blocked = asyncio.create_task(store.execute("BLPOP", "never", "1"))
    results = await asyncio.gather(blocked, store.execute("PING"), return_exceptions=True)
    assert isinstance(results[0], StoreInDoubt)
    assert results[1] == "PONG" or isinstance(results[1], StoreUnavailable)
    await store.close()
