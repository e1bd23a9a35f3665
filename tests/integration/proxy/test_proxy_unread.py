"""Connections whose peer does not read: whatever cuts them, they end, and at once when they are to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from api_support import ending

import chaos.faults.network.connection
from chaos.faults.network.connection import Connection
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxics.disconnect import DisconnectToxic
from chaos.faults.network.toxics.limit import LimitToxic
from chaos.faults.network.toxics.timeout import TimeoutToxic

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

FLOOD = b"x" * (64 * 1024 * 1024)
"""More than all buffers on the way take."""


def _sockets() -> int:
    """Return how many sockets this process has open."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:  # the descriptor that lists them
            continue
    return found


@pytest.fixture
async def unread(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, eventually: Eventually
) -> AsyncIterator[Callable[[str], Awaitable[tuple[Proxy, Connection, socket.socket]]]]:
    """Return a function that floods one direction of a new connection whose peer there reads nothing.

    It gives the proxy, its connection, and the socket of the client, once the proxy itself holds bytes for that peer.
    """
    upstream_port, accepted = accepting
    clients: list[socket.socket] = []

    async def flood(side: str) -> tuple[Proxy, Connection, socket.socket]:
        proxy = proxy_to(upstream_port)
        client = socket.socket()
        clients.append(client)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, proxy.address)
        server_reader, server_writer = await accepted.get()
        if side == "reply":
            server_writer.write(FLOOD)
        else:
            server_reader._transport.pause_reading()  # type: ignore[attr-defined]
            sender = asyncio.ensure_future(loop.sock_sendall(client, FLOOD))
            sender.add_done_callback(lambda done: done.cancelled() or done.exception())
        (connection,) = proxy.connections()
        reader = connection.ends[0 if side == "reply" else 1]

        async def stuck() -> bool:
            return reader.unsent_bytes > 0

        await eventually(stuck)
        return proxy, connection, client

    yield flood
    for client in clients:
        client.close()


Unread = Callable[[str], Awaitable[tuple[Proxy, Connection, socket.socket]]]


async def _ended(proxy: Proxy) -> bool:
    return not proxy.connections()


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_fin_ends_although_a_peer_does_not_read(
    unread: Unread, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """Once its time is over, what was not taken is lost and the connection is gone."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 0.05)
    proxy, _, _ = await unread(side)
    await proxy.inject("f0", DisconnectToxic(how="fin"))
    await eventually(lambda: _ended(proxy))
    assert proxy.state().buffered_bytes == 0


@pytest.mark.parametrize("toxic", [LimitToxic(limit_bytes=0, side="request"), TimeoutToxic(after_s=0.01)])
async def test_toxics_that_close_end_it_too(
    unread: Unread,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    toxic: LimitToxic | TimeoutToxic,
) -> None:
    """A limit and a timeout close as FIN does, and wait for nobody any longer."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 0.05)
    proxy, _, client = await unread("reply")
    await proxy.inject("f0", toxic)
    await asyncio.get_running_loop().sock_sendall(client, b"one byte too many")
    await eventually(lambda: _ended(proxy))
    assert toxic.evidence()["connections_closed"] >= 1


async def test_rst_ends_an_unfinished_fin(
    unread: Unread, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset does not wait for what FIN waits for; it counts, since it cuts off what was on its way."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 3600)
    proxy, connection, client = await unread("reply")
    await proxy.inject("f0", DisconnectToxic(how="fin"))
    assert await proxy.inject("f1", DisconnectToxic(how="rst")) == {"connections_cut": 1}
    assert connection.how_cut == "rst"
    await eventually(lambda: _ended(proxy))
    assert ending(client) == "rst"


async def test_rst_adds_nothing_to_a_fin_that_was_sent(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Peers that have read their end of file are not cut a second time."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 3600)
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    reader, _ = await dial(proxy.port)
    await accepted.get()
    await proxy.inject("f0", DisconnectToxic(how="fin"))
    assert await reader.read() == b""
    assert await proxy.inject("f1", DisconnectToxic(how="rst")) == {"connections_cut": 0}


@pytest.mark.parametrize("how", ["fin", "half_close", "stall", "discard"])
async def test_a_closed_proxy_has_no_socket_left(
    unread: Unread, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """However a connection was cut before, closing the proxy closes its sockets in the next turn."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 3600)
    proxy, _, _ = await unread("reply")
    before = _sockets()
    await proxy.inject("f0", DisconnectToxic(how=how))
    proxy.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not proxy.connections()
    assert _sockets() == before - 4  # two of the connection, the listener and the reservation


async def test_a_closed_proxy_has_no_socket_left_of_a_fin_that_was_sent(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for the FIN of peers any longer; they read the end of file all the same."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 3600)
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    reader, _ = await dial(proxy.port)
    await accepted.get()
    await proxy.inject("f0", DisconnectToxic(how="fin"))
    proxy.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not proxy.connections()
    assert await reader.read() == b""


async def test_reset_client_waits_for_an_upstream_only_so_long(
    unread: Unread, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent to the upstream before the client's reset may arrive, but not for ever."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 0.05)
    proxy, connection, _ = await unread("request")
    connection.reset_client()
    assert proxy.connections()
    await eventually(lambda: _ended(proxy))
    assert connection.how_cut == "rst"


async def test_dropping_waits_for_nobody(unread: Unread) -> None:
    """A proxy that is switched off closes its connections at once."""
    proxy, connection, _ = await unread("reply")
    proxy.drop_all()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not proxy.connections()
    assert connection.how_cut == "fin"
