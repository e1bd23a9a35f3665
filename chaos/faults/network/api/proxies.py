"""The proxies by name, and what may happen to them. Each has a lock of its own: none waits for another.

A proxy that is switched off keeps its port, unlike in Toxiproxy; clients are refused all the same.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from chaos.faults.network.api.addresses import Address, dialable, resolve
from chaos.faults.network.api.failure import (
    PROXIES_MAX,
    PROXY_EXISTS,
    PROXY_NOT_FOUND,
    TOO_MANY_PROXIES,
    ApiError,
    refused,
)
from chaos.faults.network.api.toxics import Toxics, ToxicSpec
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.sockets import descriptors_left, joined

LOOPBACK = "127.0.0.1:0"
"""Where a proxy listens that names no address, unless the API itself is open to other machines."""


_DESCRIPTORS_KEPT = 64
"""No proxy takes the last descriptors: clients, of the API too, could not come in any more."""


@dataclass(frozen=True)
class ProxySpec:
    """What a body asks for."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: Sequence[ToxicSpec] = ()


class ManagedProxy:
    """A proxy with what the API shows of it. Whoever changes it holds its lock; see `Proxies.locked`."""

    def __init__(self, proxy: Proxy, listen: str, upstream: str, toxics: Toxics, *, enabled: bool = False) -> None:
        """`listen` and `upstream` are as the user wrote them; the first becomes the bound address."""
        self.proxy = proxy
        self.listen = listen
        self.upstream = upstream
        self.toxics = toxics
        self.enabled = enabled

    def start(self, address: Address) -> None:
        """Listen on a resolved address. Raises ApiError; the proxy is off then."""
        if self.enabled:
            return
        host = address.bind_host
        if descriptors_left() < _DESCRIPTORS_KEPT:
            raise refused(f"listen tcp {address}: socket: too many open files")
        try:
            if self.proxy.address != (host, address.port):
                self.proxy.bind(host, address.port)
            self.proxy.listen()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise refused(f"listen tcp {address}: bind: {reason[:1].lower()}{reason[1:]}") from error
        self.enabled = True
        self.listen = joined(*self.proxy.address)

    def stop(self) -> None:
        """Refuse clients and close every connection at once; toxics stay. Idempotent."""
        if self.enabled:
            self.enabled = False
            self.proxy.stop_listening(self.proxy)
            self.proxy.drop_all()

    def move(self, listen: str, upstream: str) -> None:
        """Take another address and another upstream; only while it is off."""
        self.listen = listen
        self.upstream = upstream
        self.proxy.upstream = dialable(upstream)

    def close(self) -> None:
        """Stop, and give the port back."""
        self.stop()
        self.proxy.close()

    def differs(self, address: Address, upstream: str) -> bool:
        """Tell whether another address or upstream is asked for; port 0 always is another."""
        return self.listen != str(address) or self.upstream != upstream


class Proxies:
    """All proxies of this process."""

    def __init__(self, seed: int = 0, *, everywhere: bool = False) -> None:
        """Toxics draw from `seed`. With `everywhere` an omitted address means all interfaces, as in Toxiproxy."""
        self._seed = seed
        self._default_listen = "" if everywhere else LOOPBACK
        self._proxies: dict[str, ManagedProxy] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __iter__(self) -> Iterator[ManagedProxy]:
        return iter(list(self._proxies.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._proxies

    def __getitem__(self, name: str) -> ManagedProxy:
        """Return a proxy. Raises ApiError."""
        if name not in self._proxies:
            raise ApiError(*PROXY_NOT_FOUND)
        return self._proxies[name]

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of one name, whether or not there is such a proxy."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        async with lock:
            yield

    def adopt(self, proxy: Proxy) -> None:
        """Take in a proxy that listens already, under its name, which must be free."""
        toxics = Toxics(proxy, self._seed)
        upstream = joined(*proxy.upstream)
        self._proxies[proxy.name] = ManagedProxy(proxy, joined(*proxy.address), upstream, toxics, enabled=True)

    def discard(self, name: str) -> None:
        """End and forget a proxy. Raises ApiError."""
        self[name].proxy.close()
        del self._proxies[name]

    async def create(self, spec: ProxySpec) -> ManagedProxy:
        """Make a proxy. Raises ApiError, and then there is none."""
        async with self.locked(spec.name):
            if spec.name in self._proxies:
                raise ApiError(*PROXY_EXISTS)
            self._demand_room()
            made = await self._made(spec)
            if spec.name in self._proxies:  # added by the harness meanwhile, which asks no lock
                made.close()
                raise ApiError(*PROXY_EXISTS)
            self._proxies[spec.name] = made
            return made

    async def replace(self, spec: ProxySpec) -> ManagedProxy:
        """Make a proxy, or leave one alone that is the same, or put one in the place of another.

        Raises ApiError; a proxy that was to be replaced is stopped then, and stays.
        """
        async with self.locked(spec.name):
            there = self._proxies.get(spec.name)
            if there is not None:
                if not there.differs(await resolve(spec.listen), spec.upstream):
                    return there
                there.stop()
            else:
                self._demand_room()
            made = await self._made(spec)
            if there is not None:
                there.close()
            self._proxies[spec.name] = made
            return made

    async def update(self, name: str, listen: str | None, upstream: str | None, enabled: bool | None) -> ManagedProxy:
        """Change what is not None. Raises ApiError.

        Another address or upstream closes every connection; toxics stay. Where the address cannot be had, the proxy
        is left off, with the new address.
        """
        async with self.locked(name):
            proxy = self[name]
            asked = proxy.enabled if enabled is None else enabled
            wanted = proxy.listen if listen is None else listen
            upstream = proxy.upstream if upstream is None else upstream
            address = await resolve(wanted)
            if self._proxies.get(name) is not proxy:
                raise ApiError(*PROXY_NOT_FOUND)
            if proxy.differs(address, upstream):
                proxy.stop()
                proxy.move(wanted, upstream)
            if not asked:
                proxy.stop()
            else:
                proxy.start(address if wanted else await resolve(self._default_listen))
            return proxy

    async def remove(self, name: str) -> None:
        """End and forget a proxy; its connections are closed. Raises ApiError."""
        async with self.locked(name):
            self[name].close()
            del self._proxies[name]

    async def reset(self) -> None:
        """Switch every proxy on and take all toxics out: everything, or, when it raises ApiError, nothing."""
        async with AsyncExitStack() as held:
            for name in sorted(self._proxies):
                await held.enter_async_context(self.locked(name))
            proxies = list(self)
            off = [proxy for proxy in proxies if not proxy.enabled]
            addresses = [await self._address(proxy.listen) for proxy in off]
            started: list[tuple[ManagedProxy, str]] = []
            try:
                for proxy, address in zip(off, addresses, strict=True):
                    listen = proxy.listen
                    proxy.start(address)
                    started.append((proxy, listen))
            except ApiError:
                for proxy, listen in started:
                    proxy.stop()
                    proxy.listen = listen
                raise
            for proxy in proxies:
                await proxy.toxics.clear()
                await asyncio.sleep(0)  # there may be thousands

    def close(self) -> None:
        """End all of them."""
        for proxy in self:
            proxy.close()
        self._proxies.clear()

    def _demand_room(self) -> None:
        if len(self._proxies) >= PROXIES_MAX:
            raise ApiError(*TOO_MANY_PROXIES)

    async def _made(self, spec: ProxySpec) -> ManagedProxy:
        """Return a new proxy, started if it is to be. Raises ApiError."""
        proxy = Proxy(spec.name, dialable(spec.upstream), None, unreachable="fin")
        made = ManagedProxy(proxy, spec.listen, spec.upstream, Toxics(proxy, self._seed))
        try:
            for toxic in spec.toxics:
                await made.toxics.add(toxic)
            if spec.enabled:
                made.start(await self._address(spec.listen))
        except BaseException:
            made.close()
            raise
        return made

    async def _address(self, listen: str) -> Address:
        """Return the address to listen on. Raises ApiError in the words of Go's net.Listen."""
        try:
            return await resolve(listen or self._default_listen)
        except ApiError as error:
            raise ApiError(error.status, f"listen tcp: {error.text}") from error


def document(managed: ManagedProxy, *, strict: bool) -> dict[str, Any]:
    """Describe a proxy as the API does; with `strict` it has the empty `Logger` that Toxiproxy shows."""
    shown: dict[str, Any] = {
        "name": managed.proxy.name,
        "listen": managed.listen,
        "upstream": managed.upstream,
        "enabled": managed.enabled,
    }
    if strict:
        shown["Logger"] = {}
    shown["toxics"] = managed.toxics.documents()
    return shown
