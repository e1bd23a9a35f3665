"""What the proxy learns from the kernel about a socket without reading from it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from tests_support import wait_until

from chaos.faults.network.sockets import leads_to, peer_left, reset, unacknowledged_bytes, unread_bytes


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two ends of one loopback TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname(), timeout=5)
        far, _ = server.accept()
    far.settimeout(5)
    with near, far:
        yield near, far


def test_unread_bytes_counts_what_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    """Bytes count until they are read; the FIN behind them does not, nor does a closed socket."""
    near, far = pair
    assert unread_bytes(far) == 0
    near.sendall(b"12345")
    near.shutdown(socket.SHUT_WR)
    far.recv(1, socket.MSG_PEEK)
    assert unread_bytes(far) == 5
    assert far.recv(2) == b"12"
    assert unread_bytes(far) == 3
    far.close()
    assert unread_bytes(far) == 0


def test_unacknowledged_bytes_counts_what_a_reset_would_lose(pair: tuple[socket.socket, socket.socket]) -> None:
    """What the peer has no room for counts until it reads, all that it has got does not, nor does a closed socket."""
    near, far = pair
    near.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += near.send(bytes(65536))
    assert 0 < unacknowledged_bytes(near) < sent
    while sent:
        sent -= len(far.recv(65536))
    assert wait_until(lambda: unacknowledged_bytes(near) == 0)
    near.close()
    assert unacknowledged_bytes(near) == 0


def test_reset_is_seen_as_a_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    """The peer of a socket closed by `reset` reads ECONNRESET, not end of file."""
    near, far = pair
    reset(near)
    reset(near)
    with pytest.raises(ConnectionResetError):
        far.recv(1)


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_peer_left_sees_the_end_behind_unread_bytes(pair: tuple[socket.socket, socket.socket], leave: object) -> None:
    """A peer that is there has not left, whatever it sent; one that closed or reset has."""
    near, far = pair
    near.sendall(b"last words")
    far.recv(1, socket.MSG_PEEK)
    assert not peer_left(far)
    assert callable(leave)
    leave(near)
    assert peer_left(far)
    assert unread_bytes(far) == len(b"last words")


@pytest.mark.parametrize(
    ("target", "listener", "expected"),
    [
        (("127.0.0.1", 5), ("127.0.0.1", 5), True),
        (("127.0.0.1", 6), ("127.0.0.1", 5), False),
        (("127.0.0.2", 5), ("127.0.0.1", 5), False),
        (("127.0.0.2", 5), ("0.0.0.0", 5), True),
        (("192.0.2.1", 5), ("0.0.0.0", 5), False),
        (("::1", 5), ("0.0.0.0", 5), False),
        (("127.0.0.1", 5), ("::", 5), True),
        (("::ffff:127.0.0.1", 5), ("127.0.0.1", 5), True),
        (("0.0.0.0", 5), ("127.0.0.1", 5), True),
        (("0.0.0.0", 5), ("192.0.2.1", 5), False),
        (("127.0.0.1", 0), ("", 0), False),
        (("fe80::1%nowhere", 5), ("::", 5), False),
    ],
)
def test_leads_to_knows_the_same_place_by_other_names(
    target: tuple[str, int], listener: tuple[str, int], expected: bool
) -> None:
    """A listener on one address is reached by it alone, one on all by every address of this machine."""
    assert leads_to(target, listener) is expected
