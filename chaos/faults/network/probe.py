"""A client of our own behind a proxy: it sends what shows whether a toxic acts, and measures."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
CONNECT_TIMEOUT_S = 1.0
_DATA_SEGS_IN = 152
"""Offset of tcpi_data_segs_in in Linux's struct tcp_info (include/uapi/linux/tcp.h)."""


class Probe:
    """One connection to a Redis-compatible server. Every call raises OSError or EOFError when it was cut."""

    open_ports: ClassVar[set[int]] = set()
    """Local ports of all open probes of this process, to tell them from the connections of others."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Use an open connection; see `probe`."""
        self._reader = reader
        self._writer = writer
        self._port = int(writer.get_extra_info("sockname")[1])
        self.open_ports.add(self._port)

    async def ping(self, timeout_s: float | None = None) -> float:
        """Send PING and return the seconds until its answer."""
        return await self.ask(PING, len(PONG), timeout_s)

    async def echo(self, size_bytes: int, timeout_s: float | None = None) -> float:
        """Send `size_bytes` and have them sent back; return the seconds until all are here."""
        head = f"${size_bytes}\r\n".encode()
        payload = head + b"x" * size_bytes + b"\r\n"
        return await self.ask(b"*2\r\n$4\r\nECHO\r\n" + payload, len(payload), timeout_s)

    async def ask(self, request: bytes, reply_bytes: int, timeout_s: float | None = None) -> float:
        """Send a request and read an answer of so many bytes; return the seconds it took."""
        began_s = time.monotonic()
        await self.send(request)
        await self.receive(reply_bytes, timeout_s)
        return time.monotonic() - began_s

    async def send(self, request: bytes) -> None:
        """Send a request."""
        self._writer.write(request)
        await self._writer.drain()

    async def receive(self, size_bytes: int, timeout_s: float | None = None) -> bytes:
        """Read exactly so many bytes; raises TimeoutError, and EOFError at the end of the stream."""
        async with asyncio.timeout(timeout_s):
            return await self._reader.readexactly(size_bytes)

    async def line(self, timeout_s: float | None = None) -> bytes:
        """Read one line, without its end."""
        async with asyncio.timeout(timeout_s):
            text = await self._reader.readuntil(b"\r\n")
        return text[:-2]

    async def end(self, timeout_s: float | None = None) -> str:
        """Read until the connection ends; return "fin" or "rst"."""
        async with asyncio.timeout(timeout_s):
            try:
                while await self._reader.read(65536):
                    pass
            except ConnectionResetError:
                return "rst"
        return "fin"

    def segments(self) -> int | None:
        """Return how many TCP segments with data came in; None where the kernel does not say."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        if not hasattr(socket, "TCP_INFO"):
            return None
        info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        if len(info) < _DATA_SEGS_IN + 4:
            return None
        return int(struct.unpack_from("=I", info, _DATA_SEGS_IN)[0])

    def close(self) -> None:
        """Close it at once. Idempotent."""
        self._writer.transport.abort()
        # The socket is closed in the loop's next turn; until then the kernel lists it.
        asyncio.get_running_loop().call_soon(self.open_ports.discard, self._port)


@asynccontextmanager
async def probe(address: tuple[str, int], timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncIterator[Probe]:
    """Connect, and close at the end. Raises OSError (TimeoutError too) when nobody answers."""
    connection = await connect(address, timeout_s)
    try:
        yield connection
    finally:
        connection.close()


async def connect(address: tuple[str, int], timeout_s: float = CONNECT_TIMEOUT_S) -> Probe:
    """Connect; the caller closes. Raises OSError (TimeoutError too) when nobody answers."""
    async with asyncio.timeout(timeout_s):
        return Probe(*await asyncio.open_connection(*address))


async def round_trips(address: tuple[str, int], count: int, size_bytes: int, timeout_s: float) -> list[float]:
    """Return the times of `count` exchanges on one new connection; of 0 bytes: PING. Shorter when it broke."""
    times: list[float] = []
    with contextlib.suppress(OSError, EOFError):
        async with probe(address) as connection:
            for _ in range(count):
                exchange = connection.echo(size_bytes, timeout_s) if size_bytes else connection.ping(timeout_s)
                times.append(await exchange)
    return times
