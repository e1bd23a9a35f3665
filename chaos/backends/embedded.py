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

from redis.exceptions import RedisError

from chaos._channel import Channel
from chaos._process import Child, spawn_python
from chaos.backends.redis_server import RedisServer, find_server
from chaos.errors import EnvironmentUnavailable, HarnessError

_PROXY_START_S = 8.0
_KEEP_EVERY_S = 0.1


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
        on_server: Callable[[str, int], None],
    ) -> None:
        """Nothing is started yet. `redis` is the store's configuration; `on_child` hears of every process.

        `shim_environment` holds the variables that load the file shim (empty: no shim). `on_server` hears what
        becomes of the server: ("server_exited", status) and ("server_started", pid).
        """
        self._data = data
        self._logs = logs
        self._redis_config = redis
        self._shim_environment = dict(shim_environment)
        self._on_child = on_child
        self._on_server = on_server
        self._keeper: asyncio.Task[None] | None = None
        self._children: list[Child] = []
        self.server: RedisServer | None = None
        self.proxy_channel: Channel | None = None
        self.redis_port = 0
        self.identities: dict[str, Any] = {}
        self.hold_down = False
        """While True a server that has ended is not started again: a fault keeps it down."""

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
        upstream = {"name": "redis", "upstream_host": "127.0.0.1", "upstream_port": self.server.port}
        try:
            added = await channel.call("add", upstream, timeout_s=_PROXY_START_S)
            self.identities["redis"] = await self.server.capabilities()
        except (TimeoutError, OSError, RedisError) as error:
            raise EnvironmentUnavailable(
                f"the server or the proxy did not answer: {type(error).__name__}: {error}", f"read {self._logs}"
            ) from error
        self.redis_port = int(added["port"])
        self._keeper = asyncio.get_running_loop().create_task(self._keep_server())

    async def start_redis(self) -> None:
        """Start the server, first or again, on the same port and data."""
        assert self.server is not None
        self.hold_down = False
        child = await self.server.start()
        self._register(child)
        self._on_server("server_started", child.pid)

    def lost_proxy(self) -> HarnessError | None:
        """Return the failure to raise when the proxy has ended: it is part of the harness, and no fault aims at it."""
        if self.proxy_channel is None or not self.proxy_channel.closed:
            return None
        return HarnessError(f"the proxy process ended by itself; read {self._logs / 'proxy.log'}")

    async def stop(self) -> list[str]:
        """End every process; return the names of those that could not be ended. Idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self.proxy_channel is not None:
            self.proxy_channel.close()
        if self.server is not None:
            await self.server.stop()
        return [f"{child.name} (pid {child.pid})" for child in self._children if not await child.kill()]

    async def _keep_server(self) -> None:
        """Start the server again when it ends by itself, as the supervisor of a real machine would.

        A server that does not start is tried again: its disk may be full for as long as a fault holds.
        """
        assert self.server is not None
        told: Child | None = None
        while True:
            await asyncio.sleep(_KEEP_EVERY_S)
            child = self.server.child
            if child is None or child.status is None:
                continue
            if child is not told:
                told = child
                self._on_server("server_exited", child.status)
            if not self.hold_down:
                with contextlib.suppress(EnvironmentUnavailable):
                    await self.start_redis()

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
