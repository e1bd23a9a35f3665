"""Listen and upstream addresses as Go reads them, with its words for those that it cannot read."""

from __future__ import annotations

import asyncio
import functools
import socket
from dataclasses import dataclass

from chaos.faults.network.api.failure import ApiError, refused
from chaos.faults.network.sockets import joined, resolved

RESOLVE_TIMEOUT_S = 5.0
"""How long the name in a listen address may take to resolve."""

PORT_MAX = 65535
_EVERY_IPV4 = "0.0.0.0"  # noqa: S104  # bound to only where a user asks for it


@dataclass(frozen=True)
class Address:
    """Where to listen: an IP address, "" for all of them, and a port, 0 for any."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as Go writes an address that nothing listens on yet: without a host for the wildcard."""
        return joined(self.host, self.port)

    @property
    def bind_host(self) -> str:
        """The literal to bind to. Both wildcards mean IPv4 and IPv6 where there is IPv6, as in Go."""
        if self.host in ("", _EVERY_IPV4, "::"):
            return "::" if _dual_stack() else _EVERY_IPV4
        return self.host


async def resolve(listen: str) -> Address:
    """Return the address that a text means; of a name the first IPv4 address, else the first. Raises ApiError."""
    host, port = split(listen)
    if not host:
        return Address("", port)
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = [address for address, _ in await resolved(host, port)]
    except TimeoutError as error:
        raise refused(f"lookup {host}: i/o timeout") from error
    except OSError as error:
        raise refused(f"lookup {host}: no such host") from error
    return Address(next((address for address in found if ":" not in address), found[0]), port)


def split(address: str) -> tuple[str, int]:
    """Return host and port of a text, "" and 0 of an empty one. Raises ApiError."""
    if not address:
        return "", 0
    host, service = _split(address)
    return host, _port(service)


def dialable(upstream: str) -> tuple[str, int]:
    """Return what to dial for an upstream; port 0, which can never be reached, where the text means nothing."""
    try:
        host, port = split(upstream)
    except ApiError:
        return upstream, 0
    return host or "localhost", port


def _split(address: str) -> tuple[str, str]:
    colon = address.rfind(":")
    if colon < 0:
        raise _unreadable(address, "missing port in address")
    if address[0] == "[":
        end = address.find("]")
        if end < 0:
            raise _unreadable(address, "missing ']' in address")
        if end + 1 != colon:
            colons = address[end + 1 : end + 2] == ":"
            raise _unreadable(address, "too many colons in address" if colons else "missing port in address")
        host, inside, behind = address[1:end], address[1:], address[end + 1 :]
    else:
        host, inside, behind = address[:colon], address, address
        if ":" in host:
            raise _unreadable(address, "too many colons in address")
    for bracket, part in (("[", inside), ("]", behind)):
        if bracket in part:
            raise _unreadable(address, f"unexpected '{bracket}' in address")
    return host, address[colon + 1 :]


def _port(service: str) -> int:
    digits = service[1:] if service[:1] in ("+", "-") else service
    if not digits:
        return 0
    if not (digits.isascii() and digits.isdigit()):
        try:
            return socket.getservbyname(service, "tcp")
        except (OSError, ValueError) as error:
            raise refused(f"lookup tcp/{service}: unknown port") from error
    port = int(digits.lstrip("0")[:10] or "0")
    if port > PORT_MAX or (service[0] == "-" and port):
        raise _unreadable(service, "invalid port")
    return port


def _unreadable(address: str, why: str) -> ApiError:
    return refused(f"address {address}: {why}")


@functools.cache
def _dual_stack() -> bool:
    return socket.has_dualstack_ipv6()
