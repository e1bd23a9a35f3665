"""Which backend and which proxy a run's options mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chaos._process import Child
from chaos.backends.embedded import EmbeddedEnvironment
from chaos.backends.environment import Environment
from chaos.errors import EnvironmentUnavailable
from chaos.experiment.plan import Plan
from chaos.faults.base import Fault, NetworkLever
from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.resp.on_command import OnCommand
from chaos.runner.folder import RunFolder
from chaos.runner.guardian import Guardian
from chaos.runner.result import RunOptions

TOKENS = r"(?<![\w.])(?:c|before|after)\d+\.\d+(?![\w.])"
"""What the names of transactions look like in a frame; they are made in `chaos.runner.clients` and `run`."""


def make_environment(
    options: RunOptions,
    folder: RunFolder,
    guardian: Guardian,
    *,
    redis: Mapping[str, Any],
    shim_environment: Mapping[str, str],
    on_server: Callable[[str, int], None],
    on_child: Callable[[Child], None],
) -> Environment:
    """Return the environment that `options` name; nothing is started yet.

    `redis` is the store's configuration, `on_server` hears what becomes of the server, `on_child` of each process the
    moment it is started. Containers are told to `guardian`. Raises EnvironmentUnavailable when the place is known not
    to be here.
    """
    if options.backend == "docker":
        from chaos.backends.docker.environment import DockerEnvironment

        run_id = str(folder.path)
        guardian.watch_containers(run_id)
        return DockerEnvironment(folder.data, folder.logs, run_id=run_id, redis=redis, on_server=on_server)
    if options.backend == "compose":
        from chaos.backends.docker.compose import ComposeEnvironment

        def _borrowed(note: dict[str, Any]) -> None:
            folder.lend(note)
            guardian.watch_stack(note)

        return ComposeEnvironment(folder.data, folder.logs, redis=redis, on_server=on_server, on_stack=_borrowed)
    return EmbeddedEnvironment(
        folder.data,
        folder.logs,
        redis=redis,
        shim_environment=shim_environment,
        on_child=on_child,
        on_server=on_server,
        with_toxiproxy=options.proxy == "toxiproxy",
    )


async def network_lever(
    environment: Environment, plan: Plan, folder: RunFolder, *, wire: bool, start_ns: int
) -> NetworkLever:
    """Return the lever on the proxy in front of Redis, made ready for the faults of `plan`.

    Our own proxy keeps the wire journal of the run, on a clock that begins at `start_ns`; frames are in it when
    `wire` asks for them or a rule reads them. Raises EnvironmentUnavailable when `wire` asks another proxy for it.
    """
    if environment.toxiproxy is not None and wire:
        raise EnvironmentUnavailable("a Toxiproxy keeps no wire journal", "use --wire with the embedded proxy")
    if environment.toxiproxy is not None:
        address = (environment.redis_host, environment.redis_port)
        from chaos.faults.network.toxiproxy_lever import ToxiproxyLever  # it loads every toxic; most runs need none

        lever = ToxiproxyLever(environment.toxiproxy, environment.proxy_name, address)
        if any(_resets(rule.fault) for rule in plan.rules):
            await lever.prepare()
        return lever
    assert environment.proxy_channel is not None
    process = ProxyProcess(environment.proxy_channel)
    frames = wire or any(rule.fault.kind == OnCommand.kind for rule in plan.rules)
    await process.journal("redis", folder.path / "wire.jsonl", frames=frames, start_ns=start_ns, tokens=TOKENS)
    return process.lever("redis")


def _resets(fault: Fault) -> bool:
    """Tell whether a fault ends connections with RST, which a Toxiproxy must be made ready for beforehand."""
    return fault.kind == "network.refuse" or (
        fault.kind == "network.disconnect" and fault.arguments().get("how") == "rst"
    )
