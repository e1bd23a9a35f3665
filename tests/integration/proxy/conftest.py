"""A real proxy process, servers for it to stand in front of, and clients that hide nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chaos._channel import Channel
from chaos._process import Child, spawn_python
from chaos.backends.redis_server import RedisServer, find_server
from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.proxy import Proxy

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def spawned(tmp_path: Path) -> AsyncIterator[tuple[Channel, Child]]:
    """Start a proxy process and return the channel to it; whatever it logged as an error fails the test."""
    log = tmp_path / "proxy.log"
    ours, theirs = socket.socketpair()
    child = spawn_python("proxy", "chaos.faults.network.server", [], log=log, sock=theirs)
    theirs.close()
    channel = await Channel.open(ours)
    yield channel, child
    channel.close()
    assert await child.wait(10) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert "ERROR" not in log.read_text()


@pytest.fixture
def proxies(spawned: tuple[Channel, Child]) -> ProxyProcess:
    """Return the harness's side of a running proxy process."""
    return ProxyProcess(spawned[0])


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[int]]]:
    """Return a function that starts a TCP server with a handler per connection and gives its port."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def start(handler: Handler) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            try:
                await handler(reader, writer)
            except ConnectionError:
                writer.close()

        servers.append(await asyncio.start_server(handle, "127.0.0.1", 0))
        return int(servers[-1].sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
async def echo_port(serve: Callable[[Handler], Awaitable[int]]) -> int:
    """Return the port of a server that sends back what it gets, and ends when the client does."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await serve(echo)


@pytest.fixture
async def accepting(serve: Callable[[Handler], Awaitable[int]]) -> tuple[int, asyncio.Queue[Pair]]:
    """Return the port of a server that does nothing, and the queue of its connections for the test to use."""
    queue: asyncio.Queue[Pair] = asyncio.Queue()

    async def hand_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await queue.put((reader, writer))

    return await serve(hand_over), queue


@pytest.fixture
async def dial() -> AsyncIterator[Callable[[int], Awaitable[Pair]]]:
    """Return a function that connects to a port; what is open at the end of the test is closed."""
    writers: list[asyncio.StreamWriter] = []

    async def connect(port: int) -> Pair:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
async def proxy_to() -> AsyncIterator[Callable[[int], Proxy]]:
    """Return a function that makes a listening proxy to a port in this very loop, for what the channel cannot ask."""
    made: list[Proxy] = []

    def make(upstream_port: int) -> Proxy:
        made.append(Proxy("near", ("127.0.0.1", upstream_port)))
        made[-1].listen()
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()
    await asyncio.sleep(0)


@pytest.fixture
async def redis_port(tmp_path: Path) -> AsyncIterator[int]:
    """Return the port of a real Redis-compatible server."""
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log", appendfsync="no")
    await server.start()
    yield server.port
    await server.stop()


@pytest.fixture
async def redis_client() -> AsyncIterator[Callable[..., redis.asyncio.Redis]]:
    """Return a function that makes a client of one connection which never retries and gives up after `timeout_s`."""
    async with AsyncExitStack() as stack:

        def make(port: int, timeout_s: float = 5.0) -> redis.asyncio.Redis:
            client = redis.asyncio.Redis(
                host="127.0.0.1",
                port=port,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                single_connection_client=True,
                decode_responses=True,
            )
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Return a function that asks until the answer is True, and fails after ten seconds."""

    async def ask(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await asyncio.sleep(0.002)

    return ask
