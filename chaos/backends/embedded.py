"""The embedded environment: a server from a wheel behind our own proxy, nothing to install, no root.

It owns the processes that are not under test's control: the Redis-compatible server and the proxy, ours or a real
Toxiproxy. File stores need no server; their folders and the shim's control file are made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chaos._channel import Channel
from chaos._process import Child, is_stopped, spawn_python, until_exit
from chaos.backends import aof
from chaos.backends.environment import Containers
from chaos.backends.ownership import OWNER_VARIABLE, own_name
from chaos.backends.ports import Reservation
from chaos.backends.redis_server import RedisServer, find_server
from chaos.backends.toxiproxy import Toxiproxy
from chaos.backends.toxiproxy_server import ToxiproxyServer, find_toxiproxy
from chaos.errors import EnvironmentUnavailable, HarnessError

_PROXY_START_S = 8.0
_KEEP_EVERY_S = 0.1
_MARKS = ("CHAOS_RUN", OWNER_VARIABLE)
"""Variables, among those that we are given, that tell whose a process is."""


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
        with_toxiproxy: bool = False,
    ) -> None:
        """Nothing is started yet. `redis` is the store's configuration; `on_child` hears of every process.

        `with_toxiproxy` puts a real Toxiproxy before the server instead of our own proxy.

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
        self._server: RedisServer | None = None
        self._starting = asyncio.Lock()
        self._with_toxiproxy = with_toxiproxy
        self._toxiproxy_server: ToxiproxyServer | None = None
        self._listen: Reservation | None = None
        """Holds the Toxiproxy's port while a fault keeps its listener closed."""
        self._hold_down = False
        """While True a server that has ended is not started again: a fault keeps it down."""
        self.proxy_channel: Channel | None = None
        self.toxiproxy: Toxiproxy | None = None
        self.proxy_name = own_name("redis") if with_toxiproxy else "redis"
        self.redis_folder: Path | None = data / "redis"
        self.containers: Containers | None = None
        self.redis_host = "127.0.0.1"
        self.redis_port = 0
        self.identities: dict[str, Any] = {}

    async def start(self) -> None:
        """Start the server and the proxy side by side; raises EnvironmentUnavailable with the reason."""
        for name in ("sqlite", "graph", "redis"):
            (self._data / name).mkdir(mode=0o700, exist_ok=True)
        self._server = RedisServer(
            find_server(),
            self._data / "redis",
            self._logs / "redis.log",
            appendfsync=str(self._redis_config.get("appendfsync", "always")),
            environment=self._shim_environment,
        )
        start_proxy = self._start_toxiproxy if self._with_toxiproxy else self._start_proxy
        await asyncio.gather(start_proxy(), self._start_redis())
        from redis.exceptions import RedisError  # the client was loaded while the processes were starting

        try:
            self.redis_port = await self._put_proxy_before(self._server.port)
            self.identities["redis"] = await self._server.capabilities()
        except (TimeoutError, OSError, RedisError, HarnessError) as error:
            raise EnvironmentUnavailable(
                f"the server or the proxy did not answer: {type(error).__name__}: {error}", f"read {self._logs}"
            ) from error
        self._keeper = asyncio.get_running_loop().create_task(self._keep_server())

    async def _start_redis(self) -> None:
        """Start the server, first or again, on the same port and data; not while it runs or a fault keeps it down."""
        assert self._server is not None
        async with self._starting:
            runs = self._server.child is not None and self._server.child.status is None
            if runs or self._hold_down:
                return
            try:
                child = await self._server.start()
            except EnvironmentUnavailable:
                if self._hold_down:
                    return  # another fault has killed it meanwhile, and will have it started again
                raise
            self._register(child)
            self._on_server("server_started", child.pid)

    def lost_proxy(self) -> HarnessError | None:
        """Return the failure to raise when the proxy has ended: it is part of the harness, and no fault aims at it."""
        if self.proxy_channel is not None:
            is_lost = self.proxy_channel.closed
        else:
            child = self._toxiproxy_server.child if self._toxiproxy_server is not None else None
            is_lost = child is not None and child.status is not None
        return HarnessError(f"the proxy process ended by itself; read {self._proxy_log}") if is_lost else None

    def shimmed(self) -> Child | None:
        """Return the server's process."""
        return self._server.child if self._server is not None else None

    async def signal_redis(self, number: int) -> int:
        """Send a signal to the server; killed, it stays down until `revive_redis`."""
        child = self.shimmed()
        if child is None or child.status is not None:
            raise ProcessLookupError("no process of redis is running")
        if number == signal.SIGKILL:
            self._hold_down = True  # before the kill, or the keeper might be quicker than the fault
        os.kill(child.pid, number)
        return child.pid

    def keep_redis_down(self) -> None:
        """Keep the keeper from starting the server until `revive_redis`."""
        self._hold_down = True

    async def redis_gone(self, pid: int, timeout_s: float) -> bool:
        """Wait for the end of a server process; False when the time ran out first."""
        try:
            async with asyncio.timeout(timeout_s):
                await until_exit(pid)
        except TimeoutError:
            return False
        return True

    async def redis_stopped(self, pid: int) -> bool:
        """Tell whether the server is stopped now."""
        return is_stopped(pid)

    async def revive_redis(self) -> None:
        """Start the server again if a fault keeps it down."""
        if self._hold_down:
            self._hold_down = False
            await self._start_redis()

    async def mend_redis(self) -> dict[str, int]:
        """Have the server's own tool cut its log while nobody starts it; set it aside when that was not enough."""
        assert self._server is not None
        self._hold_down = True
        async with self._starting:
            done = {"redis_log_cut_bytes": await self._server.mend()}
        self._hold_down = False
        try:
            await self._start_redis()
        except EnvironmentUnavailable as error:
            if not aof.refuses(str(error)):
                raise
            async with self._starting:
                done["redis_log_set_aside"] = int(self._server.set_log_aside())
            await self._start_redis()
        return done

    async def stop(self) -> list[str]:
        """End every process; return the names of those that could not be ended. Idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self.proxy_channel is not None:
            self.proxy_channel.close()
        if self._toxiproxy_server is not None:
            await self._toxiproxy_server.stop()
        if self._listen is not None:
            self._listen.close()
        if self._server is not None:
            await self._server.stop()
        return [f"{child.name} (pid {child.pid})" for child in self._children if not await child.kill()]

    async def _keep_server(self) -> None:
        """Start the server again when it ends by itself, as the supervisor of a real machine would.

        A server that does not start is tried again: its disk may be full for as long as a fault holds.
        """
        assert self._server is not None
        told: Child | None = None
        while True:
            await asyncio.sleep(_KEEP_EVERY_S)
            child = self._server.child
            if child is None or child.status is None:
                continue
            if child is not told:
                told = child
                self._on_server("server_exited", child.status)
            if not self._hold_down:
                with contextlib.suppress(EnvironmentUnavailable):
                    await self._start_redis()

    def _register(self, child: Child) -> None:
        self._children.append(child)
        self._on_child(child)

    @property
    def _proxy_log(self) -> Path:
        return self._logs / ("toxiproxy.log" if self._with_toxiproxy else "proxy.log")

    async def _put_proxy_before(self, upstream_port: int) -> int:
        """Make the proxy in front of the server and return the port that it listens on."""
        if self.toxiproxy is not None:
            assert self._listen is not None
            listen, upstream = f"127.0.0.1:{self._listen.port}", f"127.0.0.1:{upstream_port}"
            return (await self.toxiproxy.create(self.proxy_name, listen, upstream)).port
        assert self.proxy_channel is not None
        proxy = {"name": self.proxy_name, "upstream_host": "127.0.0.1", "upstream_port": upstream_port}
        return int((await self.proxy_channel.call("add", proxy, timeout_s=_PROXY_START_S))["port"])

    async def _start_toxiproxy(self) -> None:
        binary = find_toxiproxy()
        mark = {name: value for name, value in self._shim_environment.items() if name in _MARKS}
        self._listen = Reservation()
        self._toxiproxy_server = ToxiproxyServer(binary, self._proxy_log, environment=mark)
        self._register(await self._toxiproxy_server.start())
        self.toxiproxy = self._toxiproxy_server.client
        self.identities["toxiproxy"] = {"version": await self.toxiproxy.version(), "path": str(binary)}

    async def _start_proxy(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            child = spawn_python("proxy", "chaos.faults.network.server", [], log=self._proxy_log, sock=theirs)
            self._register(child)
        finally:
            theirs.close()
        self.proxy_channel = await Channel.open(ours)
        with contextlib.suppress(TimeoutError):
            await self.proxy_channel.call("state", timeout_s=_PROXY_START_S)
            return
        raise EnvironmentUnavailable(f"the proxy did not start within {_PROXY_START_S:g}s", f"read {self._logs}")
