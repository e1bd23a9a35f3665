"""What the proxy needs of sockets beyond asyncio: listening on a reserved port, RST, bytes nobody has read yet."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import resource
import select
import socket
import struct
import termios
import threading
from asyncio.trsock import TransportSocket

AnySocket = socket.socket | TransportSocket

_BACKLOG = 1024
_LINGER_ZERO = struct.pack("ii", 1, 0)
_INT = struct.Struct("i")


def listening(host: str, port: int, backlog: int = _BACKLOG) -> socket.socket:
    """Return a non-blocking socket that listens on the IP address `host` and a port that we have reserved.

    The IPv6 wildcard takes IPv4 too. Raises OSError when another one already listens there.
    """
    sock = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of a literal IP address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def joined(host: str, port: int) -> str:
    """Return host and port as one text, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def resolved(host: str, port: int) -> list[tuple[str, int]]:
    """Return the IP addresses of a host, each with `port`; a literal address is its own. Raises OSError.

    Names are looked up in a thread, because the system's resolver may take its time.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return [(host, port)]
    key = asyncio.get_running_loop(), host
    if key not in _lookups:
        _lookups[key] = key[0].create_future()
        threading.Thread(target=_look_up, args=key, name=f"look up {host}", daemon=True).start()
    return [(address, port) for address in await asyncio.shield(_lookups[key])]


_Key = tuple[asyncio.AbstractEventLoop, str]
_lookups: dict[_Key, asyncio.Future[list[str]]] = {}
"""The names that are being looked up now: whoever asks for the same one meanwhile shares the answer."""


def _look_up(loop: asyncio.AbstractEventLoop, host: str) -> None:
    """Ask the system's resolver; in a thread of its own, which no pool runs out of and no exit waits for."""
    try:
        found = [str(address[0]) for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        outcome: list[str] | OSError = found
    except OSError as error:
        outcome = error
    except ValueError:  # a label that is empty or too long, or a zero byte
        outcome = socket.gaierror(socket.EAI_NONAME, f"{host!r} is not a name")
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(_looked_up, (loop, host), outcome)


def _looked_up(key: _Key, outcome: list[str] | OSError) -> None:
    answer = _lookups.pop(key)
    if isinstance(outcome, OSError):
        answer.set_exception(outcome)
        answer.exception()  # whoever asked may have gone; asyncio must not complain then
    else:
        answer.set_result(outcome)


def leads_to(target: tuple[str, int], listener: tuple[str, int]) -> bool:
    """Tell whether a connect to one IP address and port ends at a socket that listens on another, or on all."""
    if target[1] != listener[1] or not listener[0]:
        return False
    try:
        host, own = _plain(target[0]), _plain(listener[0])
    except ValueError:
        return False
    if host.is_unspecified:
        return own.is_unspecified or own.is_loopback  # connecting to 0.0.0.0 or :: reaches this machine
    if not own.is_unspecified:
        return host == own
    if host.version > own.version:
        return False
    try:
        with socket.socket(family_of(str(host)), socket.SOCK_DGRAM) as sock:
            sock.bind((str(host), 0))  # possible for addresses of this machine only
    except OSError:
        return False
    return True


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an IP address, an IPv4 one that is written as IPv6 as what it is. Raises ValueError."""
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


async def connected(address: tuple[str, int], own: tuple[str, int] = ("", 0)) -> socket.socket:
    """Return a socket connected to a host and port, trying each address of a name in turn. Raises OSError.

    `own` is where the caller itself listens: not tried, since a proxy that dials itself goes on for ever.
    Cancellation: safe; a peer that has accepted by then sees RST, where asyncio's own would send FIN.
    """
    host, port = address
    if not port:
        raise OSError(errno.EADDRNOTAVAIL, f"{host!r} names no port")
    refusal = OSError(errno.EADDRNOTAVAIL, f"{host!r} has no address")
    for candidate in await resolved(host, port):
        if leads_to(candidate, own):
            refusal = OSError(errno.ELOOP, f"{joined(*candidate)} is the proxy itself")
            continue
        sock = socket.socket(family_of(candidate[0]), socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, candidate)
        except OSError as error:
            sock.close()
            refusal = error
        except BaseException:
            reset(sock)
            raise
        else:
            return sock
    raise refusal


def close_resets(sock: AnySocket) -> None:
    """Make the coming close send RST at once, whatever is unsent or unread (SO_LINGER of 0 s, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def reset(sock: socket.socket) -> None:
    """Close a connected socket with RST instead of FIN. Idempotent."""
    if sock.fileno() >= 0:
        close_resets(sock)
        sock.close()


def descriptors_left() -> int:
    """Return about how many files and sockets this process may still open."""
    try:
        with socket.socket() as lowest:  # the kernel hands out the lowest number that is free
            return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - lowest.fileno()
    except OSError:
        return 0


def unread_bytes(sock: AnySocket) -> int:
    """Return how many bytes wait in the kernel to be read (FIONREAD, tcp(7)); 0 for a closed socket."""
    if sock.fileno() < 0:
        return 0
    (count,) = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(_INT.size)))
    return int(count)


def unacknowledged_bytes(sock: AnySocket) -> int:
    """Return how many bytes the peer's kernel has not acknowledged (SIOCOUTQ, tcp(7)), which a reset would lose.

    0 for a closed socket, and where the kernel does not tell.
    """
    if sock.fileno() < 0:
        return 0
    try:
        (count,) = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))
    except OSError:
        return 0
    return int(count)


def peer_left(sock: socket.socket) -> bool:
    """Tell whether the peer has closed or reset the connection, without reading anything (POLLRDHUP, poll(2))."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
