"""The ways to a Redis-compatible server that the benchmarks compare: direct, through Toxiproxy, through ours."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio

from chaos._channel import Channel
from chaos._process import Child, spawn_python
from chaos.backends.redis_server import RedisServer, find_server
from chaos.backends.toxiproxy import Toxiproxy
from chaos.backends.toxiproxy_server import ToxiproxyServer
from chaos.faults.network.client import ProxyProcess

ENDED_WITHIN_S = 10.0


@dataclass(frozen=True)
class Embedded:
    """Our proxy process and the two ways to talk to it."""

    child: Child
    channel: Channel
    proxies: ProxyProcess


@asynccontextmanager
async def server(bulk: Mapping[str, bytes] | None = None) -> AsyncIterator[int]:
    """Start a server that writes nothing to disk, holding the values of `bulk`; give its port."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        process = RedisServer(find_server(), Path(name) / "redis", Path(name) / "redis.log", appendfsync="no")
        await process.start()
        try:
            async with redis.asyncio.Redis(host="127.0.0.1", port=process.port) as client:
                await client.config_set("appendonly", "no")
                for key, value in (bulk or {}).items():
                    await client.set(key, value)
            yield process.port
        finally:
            await process.stop()


@asynccontextmanager
async def embedded() -> AsyncIterator[Embedded]:
    """Start our proxy process as the harness does."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        ours, theirs = socket.socketpair()
        child = spawn_python("proxy", "chaos.faults.network.server", [], log=Path(name) / "proxy.log", sock=theirs)
        theirs.close()
        channel = await Channel.open(ours)
        try:
            yield Embedded(child, channel, ProxyProcess(channel))
        finally:
            channel.close()
            await child.wait(ENDED_WITHIN_S)


@asynccontextmanager
async def toxiproxy(program: Path) -> AsyncIterator[Toxiproxy]:
    """Start a toxiproxy-server and give its client."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        process = ToxiproxyServer(program, Path(name) / "toxiproxy.log")
        await process.start()
        try:
            yield process.client
        finally:
            await process.stop()
