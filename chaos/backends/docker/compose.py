"""A compose stack that is up, lent to one run and given back as it was.

The stack belongs to its user. The run makes proxies of its own in the stack's Toxiproxy, next to those that are there,
and works in a database that is empty or that an earlier run left; whatever else is there is read at most. When it
leaves, its proxies and its data are gone, and the server runs, plugged in and unbounded as before.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from chaos.backends.docker.client import DaemonError, connect
from chaos.backends.docker.containers import Plug, StoreContainer
from chaos.backends.docker.database import BEFORE_KEY, FSYNC, OWNER_KEY, Database, readable
from chaos.backends.docker.environment import REDIS_PORT, ContainerEnvironment
from chaos.backends.docker.images import Image, digest
from chaos.backends.docker.probe import Probe
from chaos.backends.docker.stack import API_PORT, LOOPBACK, published
from chaos.backends.docker.sweep import Daemon
from chaos.backends.ownership import Owner, own_name, owner_of
from chaos.backends.toxiproxy import Toxiproxy, ToxiproxyError
from chaos.errors import EnvironmentUnavailable, HarnessError

PROJECT_VARIABLE = "CHAOS_COMPOSE_PROJECT"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
SERVICES = ("redis", "toxiproxy")

_UP = "start it: docker compose -f compose/compose.yaml up --wait"
_PORTS_NEEDED = 2


def demand_stack() -> None:
    """Raise EnvironmentUnavailable unless one compose stack is there to attach to; whether it is well shows later."""
    _chosen(Daemon().labelled("container", PROJECT_LABEL))


def _chosen(listed: Iterable[Mapping[str, Any]]) -> tuple[str, Mapping[str, str]]:
    """Return the project to attach to, with the container of each of its services; raises EnvironmentUnavailable."""
    stacks: dict[str, dict[str, str]] = defaultdict(dict)
    for one in listed:
        stacks[one["Labels"][PROJECT_LABEL]][one["Labels"].get(SERVICE_LABEL, "")] = one["Id"]
    wanted = os.environ.get(PROJECT_VARIABLE)
    fit = [
        name
        for name, services in sorted(stacks.items())
        if wanted in (None, "", name) and all(service in services for service in SERVICES)
    ]
    if not fit:
        which = f"no compose stack {wanted!r}" if wanted else "no compose stack"
        raise EnvironmentUnavailable(f"{which} with the services {' and '.join(SERVICES)} is up", _UP)
    if len(fit) > 1:
        raise EnvironmentUnavailable(
            f"several compose stacks have the services {' and '.join(SERVICES)}: {', '.join(fit)}",
            f"choose one with {PROJECT_VARIABLE}",
        )
    return fit[0], stacks[fit[0]]


class ComposeEnvironment(ContainerEnvironment):
    """Redis behind the Toxiproxy of a stack that its user started."""

    def __init__(
        self,
        data: Path,
        logs: Path,
        *,
        redis: Mapping[str, Any],
        on_server: Callable[[str, int], None],
        on_stack: Callable[[dict[str, Any]], None],
    ) -> None:
        """Nothing is touched yet.

        `on_stack` gets what is needed to give the stack back when this process is killed (`stack.restore`), before
        anything is changed.
        """
        super().__init__(data, logs, redis=redis, on_server=on_server)
        self._on_stack = on_stack
        self._marked = False
        """Whether our mark may be in the database."""
        self._owns_data = False
        self._made: list[str] = []
        self._fsync_before: str | None = None
        self.proxy_name = own_name("redis")
        self._control_name = own_name("control")

    async def start(self) -> None:
        """Find the stack and borrow it; raises EnvironmentUnavailable when it is not up or somebody else's."""
        self._make_folders()
        self._client = await self._calls(connect)
        try:
            found = await self._find()
            self._ids = {service: found[service]["Id"] for service in SERVICES}
            await self._borrow(found["redis"], found["toxiproxy"])
        except (DaemonError, ToxiproxyError, RedisError, OSError) as error:
            raise EnvironmentUnavailable(
                f"the compose stack cannot be used: {type(error).__name__}: {error}", "look at the logs of its services"
            ) from error

    async def stop(self) -> list[str]:
        """Give the stack back: server up, data and proxies of this run gone. Idempotent."""
        if self._stopped:
            return []
        self._stopped = True
        await self._leave()
        left: list[str] = []
        for step in (self._save_logs, self._mend, self._clean, self._remove_proxies):
            try:
                await step()
            except (HarnessError, EnvironmentUnavailable, RedisError, OSError) as error:
                left.append(str(error))
        await self._calls.close()
        if self._client is not None:
            self._client.close()
        return [f"compose stack: {'; '.join(dict.fromkeys(left))} (`chaos heal` tries again)"] if left else []

    async def _find(self) -> dict[str, dict[str, Any]]:
        """Return the containers of both services, as the daemon describes them."""
        assert self._client is not None
        api = self._client.api
        listed = await self._calls(api.containers, all=True, filters={"label": [PROJECT_LABEL]})
        project, ids = _chosen(listed)
        found = {}
        for service in SERVICES:
            found[service] = await self._calls(api.inspect_container, ids[service])
            state = found[service]["State"]
            if not state["Running"] or state["Paused"]:
                raise EnvironmentUnavailable(
                    f"service {service} of the compose stack {project} is {state['Status']}",
                    "run `chaos heal`, or start the stack again: docker compose up --wait",
                )
        return found

    async def _borrow(self, redis: dict[str, Any], toxiproxy: dict[str, Any]) -> None:
        assert self._client is not None
        plug = _plug(redis, toxiproxy)
        ports = published(toxiproxy)
        if API_PORT not in ports:
            raise EnvironmentUnavailable(
                f"the stack's Toxiproxy does not publish its port {API_PORT} on this machine",
                "publish it as compose/compose.yaml does",
            )
        self.toxiproxy = Toxiproxy(f"http://{LOOPBACK}:{ports.pop(API_PORT)}")
        await self.toxiproxy.demand()
        await self._remove_stale()
        self._on_stack(_note(redis, toxiproxy, plug, self.proxy_name, self._control_name))
        main, control = await self._free_ports(ports)
        for name, port in ((self._control_name, control), (self.proxy_name, main)):
            self._made.append(name)
            await self.toxiproxy.create(name, f"0.0.0.0:{port}", _upstream(redis))
        self._control = Probe(LOOPBACK, ports[control])
        self.redis_port = ports[main]
        await Probe(LOOPBACK, self.redis_port).wait_ready()
        await self._claim()
        self.containers = self._store = StoreContainer(
            self._calls, self._client, redis["Id"], plug, ready=self._ready, on_server=self._on_server
        )
        self._on_server("server_started", int(redis["State"]["Pid"]))
        await self._describe(await self._image(redis), await self._image(toxiproxy))
        self._store.keep()
        self._watch = asyncio.get_running_loop().create_task(self._watch_toxiproxy(toxiproxy["Id"]))

    async def _remove_stale(self) -> None:
        """Remove the proxies of runs that are dead; their ports are needed."""
        assert self.toxiproxy is not None
        for name in await self.toxiproxy.proxies():
            owner = owner_of(name)
            if owner is not None and owner.state == "dead":
                await self.toxiproxy.delete(name)

    async def _free_ports(self, ports: Mapping[int, int]) -> tuple[int, int]:
        """Return two published ports of the Toxiproxy on which no proxy listens."""
        assert self.toxiproxy is not None
        proxies = await self.toxiproxy.proxies()
        taken = {proxy.port for proxy in proxies.values()}
        free = sorted(set(ports) - taken)
        if len(free) < _PORTS_NEEDED:
            users = ", ".join(sorted(name for name in proxies if owner_of(name) is not None))
            reason = f"is in use by another run ({users})" if users else "publishes no two free ports for proxies"
            raise EnvironmentUnavailable(
                f"the stack's Toxiproxy {reason}",
                "wait for it, or start a stack of your own" if users else "publish some as compose/compose.yaml does",
            )
        return free[0], free[1]

    async def _claim(self) -> None:
        """Make the database ours: it must be empty, or left by a run that is dead. Set the durability asked for."""
        mark = Owner.this().mark
        async with self._control.client() as client:
            if (await client.config_get("appendonly"))["appendonly"] != "yes":
                raise EnvironmentUnavailable(
                    "the stack's Redis keeps no append-only file, and would lose everything when it is killed",
                    "start it with --appendonly yes, as compose/compose.yaml does",
                )
            self._marked = True
            if not await client.set(OWNER_KEY, mark, nx=True):
                owner = Owner.parse(str(await client.get(OWNER_KEY)))
                if owner is None or owner.state != "dead":
                    who = f"process {owner.pid}" if owner is not None else "an unknown run"
                    raise EnvironmentUnavailable(
                        f"the database of the stack's Redis is in use by {who}",
                        f"wait for it; if it is long gone, delete the key {OWNER_KEY} and the data",
                    )
                await self._calls(self._remove_data_of_the_dead)
                await client.set(OWNER_KEY, mark)
            elif (keys := await client.dbsize() - 1) > 0:
                raise EnvironmentUnavailable(
                    f"database 0 of the stack's Redis holds {keys} keys that are not of a run, and runs need it empty",
                    "empty it (FLUSHDB), or start a stack of its own for runs: docker compose -p NAME up --wait",
                )
            self._owns_data = True
            before = str((await client.config_get(FSYNC))[FSYNC])
            await client.hset(BEFORE_KEY, FSYNC, before)
            self._fsync_before = before
        await self._ready()

    def _remove_data_of_the_dead(self) -> None:
        """Remove what a dead run has left in the database; whatever else is there may be somebody's, and stays."""
        with Database(self._control.host, self._control.port) as database:
            ours, others = database.sort_keys()
            if others:
                raise EnvironmentUnavailable(
                    "a run that was killed left data in database 0 of the stack's Redis, and there are keys now that "
                    f"it may not have made: {readable(others)}",
                    "save what is yours, and empty the database (FLUSHDB)",
                )
            database.give_settings_back()
            database.remove(ours)

    async def _ready(self) -> None:
        """Wait until the server answers, and give it the durability that the experiment asks for (a start forgets)."""
        await self._control.wait_ready()
        try:
            async with self._control.client() as client:
                await client.config_set(FSYNC, self._appendfsync)
        except (RedisError, OSError) as error:
            raise EnvironmentUnavailable(
                f"the stack's Redis does not take appendfsync={self._appendfsync}: {error}", "look at its log"
            ) from error

    async def _mend(self) -> None:
        """Have the server run, plugged in and unbounded."""
        if self._store is not None:
            await self._store.limit_memory(None)
            await self._store.connect()
            await self._store.start()

    async def _clean(self) -> None:
        """Remove the data of this run, and give the server its own durability back."""
        if not self._marked:
            return
        async with self._control.client() as client:
            if self._owns_data:
                if self._fsync_before is not None:
                    await client.config_set(FSYNC, self._fsync_before)
                await client.flushdb()
            elif await client.get(OWNER_KEY) == Owner.this().mark:  # it turned out to hold something, or time ran out
                await client.delete(OWNER_KEY)
        self._owns_data = self._marked = False

    async def _remove_proxies(self) -> None:
        if self.toxiproxy is None:
            return
        there = await self.toxiproxy.proxies()
        for name in self._made:
            if name in there:
                await self.toxiproxy.delete(name)

    async def _image(self, container: Mapping[str, Any]) -> Image:
        assert self._client is not None
        attributes = await self._calls(self._client.api.inspect_image, container["Image"])
        return Image(str(container["Config"]["Image"]), digest(attributes))


def _plug(redis: Mapping[str, Any], toxiproxy: Mapping[str, Any]) -> Plug:
    """Return how Redis hangs on the network that it shares with the Toxiproxy."""
    mine, theirs = (container["NetworkSettings"]["Networks"] for container in (redis, toxiproxy))
    shared = sorted(set(mine) & set(theirs))
    if not shared:
        raise EnvironmentUnavailable(
            "redis and toxiproxy of the compose stack share no network", "put both on one, as compose/compose.yaml does"
        )
    endpoint = mine[shared[0]]
    aliases = tuple(name for name in endpoint["Aliases"] or () if name != redis["Id"][:12])
    return Plug(shared[0], aliases, (endpoint["IPAMConfig"] or {}).get("IPv4Address") or None)


def _upstream(redis: Mapping[str, Any]) -> str:
    """Return where the Toxiproxy finds Redis: by the name of the service."""
    return f"{redis['Config']['Labels'][SERVICE_LABEL]}:{REDIS_PORT}"


def _note(
    redis: Mapping[str, Any], toxiproxy: Mapping[str, Any], plug: Plug, proxy: str, control: str
) -> dict[str, Any]:
    """Return what `chaos.backends.docker.stack` needs to give the stack back, as plain JSON values."""
    return {
        "owner": Owner.this().mark,
        "container": redis["Id"],
        "network": plug.network,
        "aliases": list(plug.aliases),
        "address": plug.address,
        "memory": redis["HostConfig"]["Memory"],
        "swap": redis["HostConfig"]["MemorySwap"],
        "proxy_container": toxiproxy["Id"],
        "proxies": [proxy, control],
        "control": [control, _upstream(redis)],
    }
