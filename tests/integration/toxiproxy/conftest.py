"""Real Toxiproxy servers, and a real Redis-compatible one behind them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from chaos.backends.ports import Reservation
from chaos.backends.redis_server import RedisServer, find_server
from chaos.backends.toxiproxy import Toxiproxy, ToxiproxyProxy
from chaos.backends.toxiproxy_server import ToxiproxyServer, find_toxiproxy

Start = Callable[[], Awaitable[ToxiproxyServer]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder needs the real server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.requires("toxiproxy"))


@pytest.fixture
async def start_toxiproxy(tmp_path: Path) -> AsyncIterator[Start]:
    """Return a function that starts one more server; all end with the test."""
    started: list[ToxiproxyServer] = []

    async def start() -> ToxiproxyServer:
        server = ToxiproxyServer(find_toxiproxy(), tmp_path / f"toxiproxy{len(started)}.log")
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
async def toxiproxy(start_toxiproxy: Start) -> ToxiproxyServer:
    """A running server."""
    return await start_toxiproxy()


@pytest.fixture
def client(toxiproxy: ToxiproxyServer) -> Toxiproxy:
    """The client of the running server."""
    return toxiproxy.client


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A running Redis-compatible server."""
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def proxy(client: Toxiproxy, redis: RedisServer) -> AsyncIterator[ToxiproxyProxy]:
    """A proxy "redis" in front of the server, on a port that stays reserved while it is disabled."""
    with contextlib.closing(Reservation()) as listen:
        yield await client.create("redis", f"127.0.0.1:{listen.port}", f"127.0.0.1:{redis.port}")
