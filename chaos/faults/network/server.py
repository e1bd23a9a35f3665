"""The proxy process: `python -m chaos.faults.network.server --fd N`, N being its end of a socket pair.

The harness asks over `chaos._channel`: add, inject, heal, state, remove, journal, and api, which has the proxies
served over Toxiproxy's HTTP API as well. When the harness is gone the channel ends and so does this process, at once:
a proxy without a harness would hide faults from whoever healed them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import socket
from collections.abc import Mapping
from typing import Any

from chaos._channel import Channel
from chaos._process import die_with_parent
from chaos.errors import HarnessError
from chaos.faults.network.api.addresses import Address
from chaos.faults.network.api.proxies import Proxies
from chaos.faults.network.api.service import LOOPBACK, ApiService
from chaos.faults.network.journal import Journal
from chaos.faults.network.kinds import make_toxic
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.proxy_state import ProxyState
from chaos.faults.network.pump import new_loop


class ProxyServer:
    """The proxies of one process, and which of them each fault acts on."""

    def __init__(self, seed: int = 0) -> None:
        """Start without a proxy. Toxics that come over the HTTP API draw from `seed`."""
        self._proxies = Proxies(seed)
        self._api: ApiService | None = None
        self._fault_proxies: dict[str, Proxy] = {}

    async def handle(self, op: str, args: Mapping[str, Any]) -> Any:
        """Answer one question. Raises HarnessError for an unknown operation or name, OSError for a port taken."""
        match op:
            case "add":
                return {"port": self._add(**args)}
            case "inject":
                return await self._inject(**args)
            case "heal":
                return await self._heal(**args)
            case "state":
                return self._state()
            case "remove":
                return self._remove(**args)
            case "journal":
                return self._journal(**args)
            case "api":
                return {"port": await self._serve_api(**args)}
        raise HarnessError(f"op={op!r} must be one of add, inject, heal, state, remove, journal, api")

    def _add(
        self, name: str, upstream_host: str, upstream_port: int, listen_host: str = "127.0.0.1", listen_port: int = 0
    ) -> int:
        if name in self._proxies:
            raise HarnessError(f"proxy name={name!r} is in use")
        proxy = Proxy(name, (upstream_host, upstream_port), listen_host, listen_port)
        try:
            proxy.listen()
        except OSError:
            proxy.close()
            raise
        self._proxies.adopt(proxy)
        return proxy.port

    async def _inject(self, proxy: str, fault_id: str, kind: str, arguments: Mapping[str, Any]) -> Mapping[str, int]:
        if fault_id in self._fault_proxies:
            raise HarnessError(f"fault_id={fault_id!r} is in use")
        target = self._proxy(proxy)
        toxic = make_toxic(kind, arguments)
        self._fault_proxies[fault_id] = target
        return await target.inject(fault_id, toxic)

    async def _heal(self, fault_id: str) -> Mapping[str, int]:
        proxy = self._fault_proxies.get(fault_id)
        if proxy is None:
            return {}
        evidence = await proxy.heal(fault_id)
        self._fault_proxies.pop(fault_id, None)
        return evidence

    def _state(self) -> Mapping[str, ProxyState]:
        return {managed.proxy.name: managed.proxy.state() for managed in self._proxies}

    def _remove(self, proxy: str) -> None:
        target = self._proxy(proxy)
        self._proxies.discard(proxy)
        for fault_id in [fault_id for fault_id, owner in self._fault_proxies.items() if owner is target]:
            del self._fault_proxies[fault_id]

    def _journal(self, proxy: str, path: str, frames: bool, start_ns: int, tokens: str | None = None) -> None:
        self._proxy(proxy).keep_journal(Journal(path, frames=frames, start_ns=start_ns, tokens=tokens))

    def _proxy(self, name: str) -> Proxy:
        if name not in self._proxies:
            known = ", ".join(managed.proxy.name for managed in self._proxies)
            raise HarnessError(f"proxy name={name!r} must be one of {known or '(there is none)'}")
        return self._proxies[name].proxy

    async def _serve_api(self, port: int = 0) -> int:
        if self._api is not None:
            raise HarnessError("the HTTP API is served already; one port is enough")
        self._api = ApiService(self._proxies)
        try:
            _, port = await self._api.start(Address(LOOPBACK, port))
        except OSError:
            self._api = None
            raise
        return port


def raise_descriptor_limit() -> None:
    """Allow as many sockets as this user may have: a partition piles up what clients leave behind."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(sock: socket.socket) -> None:
    """Answer the harness at the other end of `sock` until it is gone."""
    channel = await Channel.open(sock, handler=ProxyServer().handle)
    await channel.wait_closed()


async def _serve_and_end(sock: socket.socket) -> None:
    await serve(sock)
    logging.shutdown()
    os._exit(0)  # nothing here is worth a tidy end, and a name lookup in a thread could hold one up


def main() -> None:
    """Run the proxy process; never returns."""
    die_with_parent()
    parser = argparse.ArgumentParser(prog="python -m chaos.faults.network.server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="number of the inherited socket to the harness")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    raise_descriptor_limit()
    gc.freeze()  # what was imported lives as long as the process; looking through it again finds nothing
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve_and_end(socket.socket(fileno=options.fd)))


if __name__ == "__main__":
    main()
