"""Containers made for one run: Redis behind a Toxiproxy on a network of their own.

Only the Toxiproxy is published, on 127.0.0.1, at ports that stay reserved for as long as the run lives. Everything
carries the run's labels, so that what a killed run leaves is found and removed by them alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import ipaddress
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import docker
from docker.types import IPAMConfig, IPAMPool, LogConfig
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_fixed

from chaos._channel import Channel
from chaos._process import Child
from chaos.backends.docker import sweep
from chaos.backends.docker.archive import unpack
from chaos.backends.docker.client import Calls, DaemonError, connect, demand_daemon
from chaos.backends.docker.containers import Plug, StoreContainer
from chaos.backends.docker.images import REDIS_VARIABLE, TOXIPROXY_VARIABLE, Image, obtain
from chaos.backends.docker.probe import Probe
from chaos.backends.docker.pull import Pull
from chaos.backends.docker.stack import API_PORT, LOOPBACK
from chaos.backends.environment import Containers
from chaos.backends.ports import Reservation
from chaos.backends.toxiproxy import Toxiproxy, ToxiproxyError
from chaos.errors import EnvironmentUnavailable, HarnessError

REDIS_PORT = 6379
PROXY_PORT = 8666
CONTROL_PORT = 8667
"""Ports in the containers. The control proxy is the harness's own way to the server: no fault is ever put in it."""

PROXY = "redis"
CONTROL = "redis-control"

_HOST = "redis.invalid"
"""The server's name on the network. No resolver outside knows it (RFC 6761), so that a server which is off the network
is told apart at once, and nobody else is asked for."""

_UP_S = 8.0
_PROBE_S = 0.02
_NETWORK_TRIES = 5
_LOG_LINES = 20_000
_UNPUBLISHED = (403, 409)


class ContainerEnvironment:
    """What both kinds of place share: a Toxiproxy in front, and a store's container behind it."""

    def __init__(
        self, data: Path, logs: Path, *, redis: Mapping[str, Any], on_server: Callable[[str, int], None]
    ) -> None:
        """Nothing is started yet. `redis` is the store's configuration; `on_server` hears of its starts and ends."""
        self._data = data
        self._logs = logs
        self._appendfsync = str(redis.get("appendfsync", "always"))
        self._on_server = on_server
        self._calls = Calls()
        self._client: docker.DockerClient | None = None
        self._lost: HarnessError | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopped = False
        self._since = int(time.time())  # the daemon tells the time of a log's lines by the wall clock
        self._ids: dict[str, str] = {}
        self._control = Probe(LOOPBACK, 0)
        self.proxy_channel: Channel | None = None
        self.toxiproxy: Toxiproxy | None = None
        self.proxy_name = PROXY
        """Name, in the Toxiproxy, of the proxy that the system under test uses."""
        self.redis_folder: Path | None = None
        self.containers: Containers | None = None
        self._store: StoreContainer | None = None
        self.redis_host = LOOPBACK
        self.redis_port = 0
        self.identities: dict[str, Any] = {}

    def lost_proxy(self) -> HarnessError | None:
        """Return why the run cannot go on: the Toxiproxy has ended, or the daemon is gone."""
        if self._lost is None and self._store is not None and self._store.failure is not None:
            self._lost = HarnessError(f"the container of redis is out of reach: {self._store.failure}")
        return self._lost

    def shimmed(self) -> Child | None:
        """No process in a container runs under the file shim."""
        return None

    async def signal_redis(self, number: int) -> int:
        """Send a signal to the server in its container."""
        if self._store is None:
            raise ProcessLookupError("no process of redis is running")
        return await self._store.signal(number)

    def keep_redis_down(self) -> None:
        """Nothing to do: only `revive_redis` starts a container again."""

    async def mend_redis(self) -> dict[str, int]:
        """No fault damages the log of a server in a container."""
        return {}

    async def redis_gone(self, pid: int, timeout_s: float) -> bool:
        """Wait for the end of the server that had `pid`."""
        return self._store is None or await self._store.gone(pid, timeout_s)

    async def redis_stopped(self, pid: int) -> bool:
        """Tell whether the freezer holds the container."""
        return self._store is not None and await self._store.frozen()

    async def revive_redis(self) -> None:
        """Start the server again if a fault keeps it down."""
        if self._store is not None:
            await self._store.revive()

    def _make_folders(self) -> None:
        for name in ("sqlite", "graph", "redis"):
            (self._data / name).mkdir(mode=0o700)

    async def _describe(self, redis: Image, toxiproxy: Image) -> None:
        """Note what really runs."""
        assert self.toxiproxy is not None
        daemon = await self._calls(demand_daemon)
        self.identities = {
            "redis": {**await self._control.capabilities(), "image": redis.name, "digest": redis.digest},
            "toxiproxy": {
                "version": await self.toxiproxy.version(),
                "image": toxiproxy.name,
                "digest": toxiproxy.digest,
            },
            "docker": {"engine": daemon.get("Version"), "api": daemon["ApiVersion"]},
        }

    async def _watch_toxiproxy(self, container_id: str) -> None:
        """Note when the Toxiproxy has ended: no fault aims at it."""
        assert self._client is not None
        api = self._client.api
        while True:
            with contextlib.suppress(DaemonError):
                await self._calls(api.wait, container_id, timeout=1, condition="not-running")
            try:
                state = (await self._calls(api.inspect_container, container_id))["State"]
            except DaemonError as error:
                self._lost = HarnessError(f"the Toxiproxy is out of reach: {error}")
                return
            if not state["Running"]:
                self._lost = HarnessError(f"the Toxiproxy ended by itself with status {state['ExitCode']}")
                return

    async def _save_logs(self) -> None:
        """Keep what the containers said since the run began, as far as it can be had."""
        for name, identity in list(self._ids.items()):
            assert self._client is not None
            with contextlib.suppress(DaemonError, OSError):
                text = await self._calls(self._client.api.logs, identity, since=self._since, tail=_LOG_LINES)
                (self._logs / ("proxy.log" if name == "toxiproxy" else f"{name}.log")).write_bytes(text)

    async def _leave(self) -> None:
        """Stop watching, and wait until the daemon has done all that it was asked for."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._store is not None:
            await self._store.leave()


class DockerEnvironment(ContainerEnvironment):
    """A network, a volume and two containers that live and end with one run."""

    def __init__(
        self, data: Path, logs: Path, *, run_id: str, redis: Mapping[str, Any], on_server: Callable[[str, int], None]
    ) -> None:
        """Nothing is started yet. `run_id` is unique to the run; it is the label by which everything is removed."""
        super().__init__(data, logs, redis=redis, on_server=on_server)
        self._run_id = run_id
        readable = run_id.rstrip("/").rpartition("/")[2]
        self._prefix = f"chaos-{readable}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
        self._labels = sweep.harness_labels(run_id)
        self._pull = Pull()
        self._ports: dict[int, Reservation] = {}

    async def start(self) -> None:
        """Make and start everything; raises EnvironmentUnavailable with the reason, `stop` removes what there is."""
        self._make_folders()
        self._client = await self._calls(connect)
        redis = await self._calls(obtain, self._client, REDIS_VARIABLE, self._pull)
        toxiproxy = await self._calls(obtain, self._client, TOXIPROXY_VARIABLE, self._pull)
        try:
            await self._bring_up(redis, toxiproxy)
        except (DaemonError, ToxiproxyError, RedisError, OSError) as error:
            raise EnvironmentUnavailable(
                f"the containers did not come up: {type(error).__name__}: {error}", f"read {self._logs}"
            ) from error

    async def stop(self) -> list[str]:
        """Keep logs and data for people, then remove everything that carries the run's label. Idempotent."""
        if self._stopped:
            return []
        self._stopped = True
        self._pull.call_off()
        try:
            await self._leave()
            await self._keep_traces()
        finally:
            await self._calls.close()
            left = await asyncio.to_thread(self._remove)
        return left

    def _remove(self) -> list[str]:
        """Remove everything, and give the ports back; return what stays."""
        for reservation in self._ports.values():
            reservation.close()
        if self._client is None:
            return []
        try:
            return sweep.remove(self._run_id, quiet_s=0).stuck
        except OSError as error:
            return [f"containers, network and volume labelled {sweep.RUN_LABEL}={self._run_id}: {error}"]
        finally:
            self._client.close()

    async def _bring_up(self, redis: Image, toxiproxy: Image) -> None:
        assert self._client is not None
        subnet = await self._calls(self._make_network)
        await self._calls(self._client.volumes.create, f"{self._prefix}-redis", labels=self._labels)
        self._ports = {port: Reservation(LOOPBACK) for port in (API_PORT, PROXY_PORT, CONTROL_PORT)}
        plug = Plug(f"{self._prefix}-net", ("redis", _HOST), str(subnet[-2]))
        await asyncio.gather(
            self._calls(self._run_redis, redis, plug), self._calls(self._run_toxiproxy, toxiproxy, str(subnet[-3]))
        )
        self._control = Probe(LOOPBACK, self._ports[CONTROL_PORT].port)
        self.redis_port = self._ports[PROXY_PORT].port
        self.toxiproxy = Toxiproxy(f"http://{LOOPBACK}:{self._ports[API_PORT].port}")
        await self._until_toxiproxy()
        upstream = f"{_HOST}:{REDIS_PORT}"
        await self.toxiproxy.create(PROXY, f"0.0.0.0:{PROXY_PORT}", upstream)  # on all addresses of a container
        await self.toxiproxy.create(CONTROL, f"0.0.0.0:{CONTROL_PORT}", upstream)
        await Probe(LOOPBACK, self.redis_port).wait_ready()
        self.containers = self._store = StoreContainer(
            self._calls,
            self._client,
            self._ids["redis"],
            plug,
            ready=self._control.wait_ready,
            on_server=self._on_server,
        )
        self._on_server("server_started", int((await self._store.state())["Pid"]))
        await self._describe(redis, toxiproxy)
        self._store.keep()
        self._watch = asyncio.get_running_loop().create_task(self._watch_toxiproxy(self._ids["toxiproxy"]))

    def _make_network(self) -> ipaddress.IPv4Network:
        """Make the private network and return its addresses.

        A container can only get its own address back, after it was unplugged, on a network whose addresses were
        named when it was made. So the daemon is asked for a free range, and the network is made again with it.
        """
        assert self._client is not None
        name = f"{self._prefix}-net"
        for attempt in range(_NETWORK_TRIES):
            network = self._client.networks.create(name, driver="bridge", labels=self._labels)
            network.reload()
            pool = network.attrs["IPAM"]["Config"][0]
            network.remove()
            ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=pool["Subnet"], gateway=pool.get("Gateway"))])
            try:
                self._client.networks.create(name, driver="bridge", labels=self._labels, ipam=ipam)
            except docker.errors.APIError as error:
                if attempt + 1 < _NETWORK_TRIES and error.status_code in _UNPUBLISHED:
                    continue  # somebody else's network took the range in between
                raise
            return ipaddress.IPv4Network(pool["Subnet"])
        raise AssertionError("unreachable")

    def _run_redis(self, image: Image, plug: Plug) -> None:
        options = {
            "port": str(REDIS_PORT),
            "dir": "/data",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": "",
            "protected-mode": "no",  # the private network is the protection
            "timeout": "0",
            "tcp-keepalive": "0",
            "maxclients": "2000",
        }
        self._run(
            "redis",
            image,
            # Options only: the images' own entry points put their server before them.
            [part for key, value in options.items() for part in (f"--{key}", value)],
            address=plug.address,
            aliases=list(plug.aliases),
            volumes={f"{self._prefix}-redis": {"bind": "/data", "mode": "rw"}},
        )

    def _run_toxiproxy(self, image: Image, address: str) -> None:
        self._run(
            "toxiproxy",
            image,
            ["-host=0.0.0.0", "-proxy-metrics"],  # without the first the API hides on the container's own loopback
            address=address,
            aliases=[],
            ports={f"{inside}/tcp": (LOOPBACK, one.port) for inside, one in self._ports.items()},
            # A dial waits for the resolver, and a change of the proxy waits for the dial.
            dns_opt=["timeout:1", "attempts:1"],
            dns_search=["."],
        )

    def _run(
        self, name: str, image: Image, command: list[str], *, address: str | None, aliases: list[str], **more: Any
    ) -> None:
        """Make and start one container on the private network; blocks."""
        assert self._client is not None
        network = f"{self._prefix}-net"
        endpoint = self._client.api.create_endpoint_config(aliases=aliases, ipv4_address=address)
        container = self._client.containers.create(
            image.name,
            command,
            name=f"{self._prefix}-{name}",
            labels=self._labels,
            network=network,
            networking_config={network: endpoint},
            healthcheck={"test": ["NONE"]},  # nothing but the run itself asks the server anything
            log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": "32m"}),
            **more,
        )
        self._ids[name] = str(container.id)
        container.start()

    async def _until_toxiproxy(self) -> None:
        """Return when the API answers with a version that can be used."""
        assert self.toxiproxy is not None
        policy = AsyncRetrying(
            retry=retry_if_exception_type(ToxiproxyError),
            stop=stop_after_delay(_UP_S),
            wait=wait_fixed(_PROBE_S),
            sleep=asyncio.sleep,
        )
        try:
            async for attempt in policy:
                with attempt:
                    await self._demand_running("toxiproxy")
                    await self.toxiproxy.version()
        except RetryError as error:
            raise EnvironmentUnavailable(
                f"the Toxiproxy did not answer within {_UP_S:g}s: {error.last_attempt.exception()}",
                f"read {self._logs}; a harness that is in a container itself needs the network of its host",
            ) from error
        await self.toxiproxy.demand()

    async def _demand_running(self, name: str) -> None:
        """Raise EnvironmentUnavailable, with the container's last words, when it has ended already."""
        assert self._client is not None
        state = (await self._calls(self._client.api.inspect_container, self._ids[name]))["State"]
        if not state["Running"]:
            said = (await self._calls(self._client.api.logs, self._ids[name], tail=3)).decode(errors="replace")
            words = " | ".join(line.strip() for line in said.splitlines())[:300]
            raise EnvironmentUnavailable(
                f"the container of {name} ended with status {state['ExitCode']}: {words}",
                f"look whether its image is one of {name}",
            )

    async def _keep_traces(self) -> None:
        """End the containers, then save their logs and the server's files into the run folder, as far as possible."""
        if self._client is None:
            return
        for identity in list(self._ids.values()):  # a creation that was cancelled may still end in its thread
            with contextlib.suppress(DaemonError):
                await self._calls(self._client.api.kill, identity)
        await self._save_logs()
        if "redis" in self._ids:
            with contextlib.suppress(DaemonError, OSError, tarfile.TarError):
                await self._calls(self._copy_data)

    def _copy_data(self) -> None:
        assert self._client is not None
        pieces, _ = self._client.api.get_archive(self._ids["redis"], "/data/.")
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            unpack(archive, self._data / "redis")
