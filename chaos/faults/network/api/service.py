"""The API on a port of its own."""

from __future__ import annotations

import socket

from chaos.faults.network.api.addresses import Address, resolve
from chaos.faults.network.api.handlers import Handlers
from chaos.faults.network.api.http import HttpServer
from chaos.faults.network.api.proxies import Proxies
from chaos.faults.network.api.router import Router
from chaos.faults.network.sockets import listening

LOOPBACK = "127.0.0.1"
PORT = 8474
"""Toxiproxy's port."""


class ApiService:
    """Serves the API over the proxies of this process. It has no password: whoever reaches the port may use it."""

    def __init__(self, proxies: Proxies, *, strict: bool = False, runtime_metrics: bool = False) -> None:
        """With `strict` answers have also what Toxiproxy shows by mistake, see `Handlers`."""
        self._http = HttpServer(Router(Handlers(proxies, strict=strict, runtime_metrics=runtime_metrics)))

    async def start(self, address: Address) -> tuple[str, int]:
        """Listen, and return the IP address and port. Raises OSError."""
        listener = listening(address.bind_host, address.port)
        await self._http.start(listener)
        return bound(listener)

    async def close(self) -> None:
        """Stop listening and end every connection. Idempotent."""
        await self._http.close()


async def api_address(host: str, port: int) -> Address:
    """Return where `host`, a name or an address, and `port` lead. Raises ApiError."""
    bare = host.removeprefix("[").removesuffix("]")
    return await resolve(f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}")


def is_loopback(address: Address) -> bool:
    """Tell whether only this machine can reach an address."""
    return address.host.startswith("127.") or address.host == "::1"


def bound(listener: socket.socket) -> tuple[str, int]:
    """Return the IP address and port of a socket."""
    host, port = listener.getsockname()[:2]
    return str(host), int(port)
