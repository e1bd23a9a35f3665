"""The embedded environment: a server from a wheel behind our own proxy, nothing to install, no root.

It owns the processes that are not under test's control: the Redis-compatible server and the proxy. File
stores need no server; their folders and the shim's control file are made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chaos._channel import Channel
from chaos._process import Child, spawn_python
from chaos.backends.redis_server import RedisServer, find_server
from chaos.errors import EnvironmentUnavailable

_PROXY_START_S = 8.0


class EmbeddedEnvironment:
    """Redis behind a proxy, and folders for the file stores, all inside one private data folder."""

    def __init__(
        self,
        data: Path,
        logs: Path,
        *,
        redis: Mapping[str, Any],
        shim_environment: Mapping[str, str],
        on_child: Callable[[Child], None],
    ) -> None:
        """Nothing is started yet. `redis` is the store's configuration; `on_child` hears of every process.

        `shim_environment` holds the variables that load the file shim (empty: no shim).
        """
        self._data = data
        self._logs = logs
        self._redis_config = redis
        self._shim_environment = dict(shim_environment)
        self._on_child = on_child
        self._children: list[Child] = []
        self.server: RedisServer | None = None
        self.proxy_channel: Channel | None = None
        self.redis_port = 0
        self.identities: dict[str, Any] = {}

    async def start(self) -> None:
        """Start the server and the proxy side by side; raises EnvironmentUnavailable with the reason."""
        for name in ("sqlite", "graph", "redis"):
            (self._data / name).mkdir(mode=0o700)
        self.server = RedisServer(
            find_server(),
            self._data / "redis",
            self._logs / "redis.log",
            appendfsync=str(self._redis_config.get("appendfsync", "always")),
            environment=self._shim_environment,
        )
        _, channel = await asyncio.gather(self.start_redis(), self._start_proxy())
        self.proxy_channel = channel
        added = await channel.call(
            "add",
            {"name": "redis", "upstream_host": "127.0.0.1", "upstream_port": self.server.port},
            timeout_s=_PROXY_START_S,
        )
        self.redis_port = int(added["port"])
        self.identities["redis"] = await self.server.capabilities()

    async def start_redis(self) -> None:
        """Start the server, first or again, on the same port and data."""
        assert self.server is not None
        child = await self.server.start()
        self._register(child)

    async def stop(self) -> list[str]:
        """End every process; return the names of those that could not be ended. Idempotent."""
        if self.proxy_channel is not None:
            self.proxy_channel.close()
        if self.server is not None:
            await self.server.stop()
        return [f"{child.name} (pid {child.pid})" for child in self._children if not await child.kill()]

    def _register(self, child: Child) -> None:
        self._children.append(child)
        self._on_child(child)

    async def _start_proxy(self) -> Channel:
        ours, theirs = socket.socketpair()
        try:
            child = spawn_python("proxy", "chaos.faults.network.server", [], log=self._logs / "proxy.log", sock=theirs)
            self._register(child)
        finally:
            theirs.close()
        channel = await Channel.open(ours)
        with contextlib.suppress(TimeoutError):
            await channel.call("state", timeout_s=_PROXY_START_S)
            return channel
        raise EnvironmentUnavailable(f"the proxy did not start within {_PROXY_START_S:g}s", f"read {self._logs}")
