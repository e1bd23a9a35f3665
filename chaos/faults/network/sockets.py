"""What the proxy needs of sockets beyond asyncio: listening on a reserved port, RST, bytes nobody has read yet."""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
from asyncio.trsock import TransportSocket

AnySocket = socket.socket | TransportSocket

_BACKLOG = 1024
_LINGER_ZERO = struct.pack("ii", 1, 0)
_INT = struct.Struct("i")


def listening(host: str, port: int) -> socket.socket:
    """Return a non-blocking socket that listens on the IPv4 address `host` and a port that we have reserved.

    Raises OSError when another one already listens there.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


async def connected(address: tuple[str, int]) -> socket.socket:
    """Return a socket connected to an IPv4 address or a name that has one. Raises OSError.

    Cancellation: safe; a peer that has accepted by then sees RST, where asyncio's own would send FIN.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        reset(sock)
        raise
    return sock


def close_resets(sock: AnySocket) -> None:
    """Make the coming close send RST at once, whatever is unsent or unread (SO_LINGER of 0 s, socket(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def reset(sock: socket.socket) -> None:
    """Close a connected socket with RST instead of FIN. Idempotent."""
    if sock.fileno() >= 0:
        close_resets(sock)
        sock.close()


def unread_bytes(sock: AnySocket) -> int:
    """Return how many bytes wait in the kernel to be read (FIONREAD, tcp(7)); 0 for a closed socket."""
    if sock.fileno() < 0:
        return 0
    (count,) = _INT.unpack(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(_INT.size)))
    return int(count)


def peer_left(sock: socket.socket) -> bool:
    """Tell whether the peer has closed or reset the connection, without reading anything (POLLRDHUP, poll(2))."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
