"""Loopback TCP ports that stay ours: reserved before a server starts and while it is down."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class Reservation:
    """A free TCP port that nobody else gets while this object is open.

    It is a socket that is bound with SO_REUSEADDR and never listens. On Linux that has three effects
    (socket(7), ip(7)):

    - another socket with SO_REUSEADDR may bind the port and listen on it while no socket listens there yet;
      redis-server and valkey-server set the option themselves, so the server we start gets its port, and gets
      it again after it was killed;
    - the kernel never hands the port out: neither to a bind to port 0 nor as the source of a connection;
    - a client is refused (ECONNREFUSED) while nothing listens, so a server that is down looks like one.

    A process that asks for this very number with SO_REUSEADDR can still take it; nothing prevents that.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Reserve `port` on the IP address `host`, or any free one for 0. Raises OSError if it is taken.

        The IPv6 wildcard `::` stands for IPv4 too.
        """
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ":" in host:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self._socket.bind((host, port))
        except BaseException:
            self._socket.close()
            raise
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give the port back; a server that listens on it by now keeps it. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
