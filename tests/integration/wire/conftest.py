"""A real server behind a real proxy process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from wire_bench import Bench, Near

from chaos._channel import Channel
from chaos._process import spawn_python
from chaos.backends.redis_server import RedisServer, find_server
from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.proxy import Proxy


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A real server."""
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log", appendfsync="no")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def near(server: RedisServer, tmp_path: Path) -> AsyncIterator[Near]:
    """A proxy whose inside can be seen."""
    proxy = Proxy("redis", ("127.0.0.1", server.port))
    proxy.listen()
    try:
        async with AsyncExitStack() as stack:
            yield Near(server, proxy, tmp_path / "wire.jsonl", stack)
    finally:
        proxy.close()
        await asyncio.sleep(0)


@pytest.fixture
async def bare(server: RedisServer, tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench without a journal, so that frames are read only while a rule is armed."""
    log = tmp_path / "proxy.log"
    ours, theirs = socket.socketpair()
    child = spawn_python("proxy", "chaos.faults.network.server", [], log=log, sock=theirs)
    theirs.close()
    channel = await Channel.open(ours)
    proxies = ProxyProcess(channel)
    try:
        port = await proxies.add("redis", "127.0.0.1", server.port)
        async with AsyncExitStack() as stack:
            yield Bench(server, proxies, port, tmp_path / "wire.jsonl", stack)
        await asyncio.sleep(0)
    finally:
        channel.close()
        status = await child.wait(10)
    assert status == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert "ERROR" not in log.read_text()


@pytest.fixture
async def bench(bare: Bench) -> Bench:
    """A bench whose journal wants frames, as in a run with a rule in its plan."""
    await bare.proxies.journal("redis", bare.wire, frames=True, tokens=r"c\d+\.\d+")
    return bare
