"""A reserved port is ours: for our server, again after it was killed, and for nobody who takes what comes."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from chaos.backends.ports import Reservation
from chaos.backends.redis_server import find_server

IP_LOCAL_PORT_RANGE = 51  # <linux/in.h>; Linux 6.3 and newer


def _ask(sock: socket.socket, command: bytes) -> bytes:
    sock.sendall(command)
    return sock.recv(64)


@contextmanager
def _server(port: int) -> Iterator[socket.socket]:
    """Start a real server on `port`, yield a connection to it, and kill it with the connection open."""
    command = [str(find_server().path), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "Ready to accept" in line:
                    break
            else:
                pytest.fail("the server ended before it was ready")
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                yield connection
                process.kill()
                process.wait()
        finally:
            process.kill()


def _choose_from(sock: socket.socket, port: int) -> None:
    """Let the kernel choose for this socket from a range of one port."""
    try:
        sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", port << 16 | port))
    except OSError:
        pytest.skip("this kernel has no IP_LOCAL_PORT_RANGE")


@pytest.mark.requires("redis")
def test_server_listens_on_the_reserved_port_and_again_after_a_kill() -> None:
    """A real server gets the port while the reservation is held, each time it is started."""
    with Reservation() as reservation:
        answers = []
        for _ in range(3):
            with _server(reservation.port) as connection:
                answers.append(_ask(connection, b"PING\r\n"))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", reservation.port), timeout=5)
    assert answers == [b"+PONG\r\n"] * 3


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("reuse", [0, 1])
def test_bind_to_port_zero_never_gets_a_reserved_port(host: str, reuse: int) -> None:
    """Even when the kernel may choose from nothing else, it does not hand the port out."""
    with Reservation() as reservation, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        _choose_from(other, reservation.port)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind((host, 0))
        reservation.close()
        other.bind((host, 0))
        assert other.getsockname()[1] == reservation.port


def test_outgoing_connection_never_leaves_from_a_reserved_port() -> None:
    """The kernel does not use the port as a source either, so nobody can connect to itself through it."""
    with Reservation() as reservation, socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as other:
        _choose_from(other, reservation.port)
        with pytest.raises(OSError, match="Cannot assign requested address"):
            other.connect(server.getsockname())


def test_taken_port_is_an_error() -> None:
    """Reserving a port that a server listens on fails."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(OSError, match="Address already in use"):
        Reservation(port=server.getsockname()[1])


def test_reservations_differ() -> None:
    """Ports that are reserved at the same time are different ones."""
    reservations = [Reservation() for _ in range(50)]
    ports = {reservation.port for reservation in reservations}
    for reservation in reservations:
        reservation.close()
    assert len(ports) == 50


def test_close_gives_the_port_back_and_may_be_repeated() -> None:
    """After close anybody may bind the port, also without SO_REUSEADDR."""
    reservation = Reservation()
    with socket.socket() as other, suppress(OSError):
        other.bind(("127.0.0.1", reservation.port))
        pytest.fail("the port was not reserved")
    reservation.close()
    reservation.close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", reservation.port))
        assert other.getsockname()[1] == reservation.port
