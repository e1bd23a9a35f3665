"""The kernel's list of who is connected to a port."""

from __future__ import annotations

import socket
import sys

import pytest
from tests_support import wait_until

from chaos.backends.connections import connected_to


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/tcp is Linux's")
def test_clients_of_a_port_are_listed() -> None:
    """By their local ports, while they are connected; not the listener, and not the clients of another port."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        assert connected_to("127.0.0.1", port) == frozenset()
        one, two = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
        with one, two, socket.create_connection(other.getsockname()):
            assert connected_to("127.0.0.1", port) == {one.getsockname()[1], two.getsockname()[1]}
            one.close()
            assert connected_to("127.0.0.1", port) == {two.getsockname()[1]}
            accepted = [server.accept()[0] for _ in range(2)]
            for end in accepted:
                end.close()
            assert wait_until(lambda: connected_to("127.0.0.1", port) == frozenset())


def test_where_no_list_can_be_read_nobody_is_claimed(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """None is not the same as nobody."""
    from pathlib import Path

    monkeypatch.setattr("chaos.backends.connections._TABLE", Path(str(tmp_path)) / "absent")
    assert connected_to("127.0.0.1", 1) is None
