"""The API and its proxies as a program of their own, until a signal comes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from chaos.errors import EnvironmentUnavailable, PlanError, Problem
from chaos.faults.network.api import bodies, fields
from chaos.faults.network.api.failure import ApiError
from chaos.faults.network.api.proxies import Proxies, ProxySpec
from chaos.faults.network.api.service import ApiService, api_address, is_loopback
from chaos.faults.network.sockets import joined


def read_config(path: str) -> list[ProxySpec]:
    """Return the proxies that a file describes. Raises PlanError for a file that cannot be read or means nothing."""
    try:
        return bodies.many_proxies(fields.body(Path(path).read_bytes()))
    except OSError as error:
        text = f"cannot be read: {error.strerror or error}"
    except ApiError as error:
        text = f"is not a list of proxies: {error.text}"
    remedy = 'write a JSON array such as [{"name": "redis", "listen": "127.0.0.1:26379", "upstream": "127.0.0.1:6379"}]'
    raise PlanError([Problem(path, 0, text, remedy, "malformed-proxies")])


async def serve(
    host: str,
    port: int,
    specs: list[ProxySpec],
    seed: int,
    *,
    strict: bool,
    runtime_metrics: bool,
    started: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM; `started` hears the address of the API once it answers.

    `strict` and `runtime_metrics` are those of `Handlers`.
    Raises EnvironmentUnavailable when an address cannot be had.
    """
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        address = await api_address(host, port)
    except ApiError as error:
        raise EnvironmentUnavailable(f"--host {host}: {error.text}", "give an address of this machine") from error
    proxies = Proxies(seed, everywhere=not is_loopback(address))
    service = ApiService(proxies, strict=strict, runtime_metrics=runtime_metrics)
    try:
        for spec in specs:
            await _begin(proxies, spec)
        try:
            bound = await service.start(address)
        except OSError as error:
            why = f"cannot listen on {address}: {error.strerror or error}"
            raise EnvironmentUnavailable(why, "give --port another number, or 0 for any") from error
        started(joined(*bound))
        await ended.wait()
    finally:
        await service.close()
        proxies.close()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn


async def _begin(proxies: Proxies, spec: ProxySpec) -> None:
    try:
        await proxies.replace(spec)
    except ApiError as error:
        remedy = "change its listen address in the file of --config"
        raise EnvironmentUnavailable(f"proxy {spec.name}: {error.text}", remedy) from error
