"""Toxics that end connections after some time or some bytes: timeout, limit, reset_peer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxics.limit import LimitToxic
from chaos.faults.network.toxics.timeout import TimeoutToxic

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


async def test_timeout_swallows_and_closes_after_a_silence(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """Nothing crosses; when nothing was sent for long enough, both sides read end of file."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.timeout", {"after_s": 0.2, "side": "request"})
    started_s = time.monotonic()
    writer.write(b"lost")
    assert await reader.read() == b""
    assert await server_reader.read() == b""
    assert time.monotonic() - started_s >= 0.19
    assert await lever.heal("f0") == {"bytes_discarded": 4, "connections_closed": 1}


async def test_timeout_starts_again_with_each_chunk(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, dial: Dial
) -> None:
    """A connection that never falls silent is never closed, though its bytes are swallowed."""
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    reader, writer = await dial(proxy.port)
    await accepted.get()
    toxic = TimeoutToxic(after_s=0.5, side="request")
    await proxy.inject("f0", toxic)
    until_s = time.monotonic() + 0.8
    while time.monotonic() < until_s:
        before = toxic.evidence().get("bytes_discarded", 0)
        writer.write(b".")
        while toxic.evidence().get("bytes_discarded", 0) == before:
            await asyncio.sleep(0.001)
    assert not reader.at_eof()
    assert "connections_closed" not in toxic.evidence()
    assert await reader.read() == b""


async def test_timeout_of_zero_never_closes_and_the_heal_does(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """The heal closes what the fault has acted on in order, since there may be a hole; new connections work."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    reader, writer = await dial(port)
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.timeout", {"after_s": 0, "side": "reply"})
    writer.write(b"passes")
    assert await server_reader.readexactly(6) == b"passes"
    assert not reader.at_eof()
    assert await lever.heal("f0") == {"connections_closed_by_heal": 1}
    assert await reader.read() == b""
    _, writer = await dial(port)
    server_reader, _ = await accepted.get()
    writer.write(b"again")
    assert await server_reader.readexactly(5) == b"again"


async def test_end_of_a_connection_passes_a_timeout(proxies: ProxyProcess, accepting: Accepting, dial: Dial) -> None:
    """Unlike in a partition, the other side hears that its peer has left."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    await proxies.lever("redis").inject("f0", "network.timeout", {"after_s": 0})
    writer.write(b"lost")
    writer.write_eof()
    assert await server_reader.read() == b""


@pytest.mark.parametrize(("limit_bytes", "expected"), [(0, b""), (3, b"abc"), (6, b"abcdef")])
async def test_limit_cuts_at_the_very_byte(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, limit_bytes: int, expected: bytes
) -> None:
    """So many bytes arrive and no more, then both sides read end of file."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.limit", {"limit_bytes": limit_bytes, "side": "request"})
    writer.write(b"abcdef")
    assert await server_reader.read() == expected
    assert await reader.read() == b""
    evidence = await lever.heal("f0")
    assert evidence == {"connections_closed": 1, "bytes_discarded": 6 - limit_bytes}


async def test_limit_below_what_has_crossed_closes_at_the_next_byte(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, dial: Dial
) -> None:
    """The count of a connection survives an update."""
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    reader, writer = await dial(proxy.port)
    server_reader, _ = await accepted.get()
    toxic = LimitToxic.from_attributes({"bytes": 100}, side="request", toxicity=1, seed=0)
    await proxy.inject("f0", toxic)
    writer.write(b"12345")
    assert await server_reader.readexactly(5) == b"12345"
    toxic.update({"bytes": 3})
    assert not reader.at_eof()
    writer.write(b"6")
    assert await server_reader.read() == b""
    assert await reader.read() == b""


async def test_reset_peer_swallows_the_first_data_of_a_new_connection_and_resets(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """The request arrives, its reply is the first data of the reply side, and the client is reset instead."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.reset_peer", {"after_s": 0.1, "side": "reply"})
    reader, writer = await dial(port)
    server_reader, server_writer = await accepted.get()
    writer.write(b"question")
    assert await server_reader.readexactly(8) == b"question"
    assert not reader.at_eof()
    started_s = time.monotonic()
    server_writer.write(b"answer")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await server_reader.read()
    assert time.monotonic() - started_s >= 0.1
    assert await lever.heal("f0") == {"connections_reset": 1, "bytes_discarded": 6}


async def test_reset_peer_resets_live_connections_idle_ones_too(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Toxiproxy closes live ones in order and idle ones never; here they are reset."""
    upstream_port, accepted = accepting
    reader, _ = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()

    async def is_open() -> bool:
        return (await proxies.state())["redis"].connections == 1

    await eventually(is_open)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.reset_peer", {"after_s": 0.0, "side": "request"})
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await server_reader.read()
    assert await lever.heal("f0") == {"connections_reset": 1}


async def test_healed_reset_peer_lets_quiet_connections_live_and_resets_those_with_a_hole(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """The heal does not wait for a long timeout; what lost bytes is reset, what lost none goes on, unharmed."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.reset_peer", {"after_s": 3600, "side": "request"})
    reader, writer = await dial(port)
    await accepted.get()
    _, quiet_writer = await dial(port)
    quiet_server_reader, _ = await accepted.get()
    writer.write(b"swallowed")

    async def swallowed() -> bool:
        return (await proxies.state())["redis"].faults["f0"].get("bytes_discarded") == 9

    await eventually(swallowed)
    assert await lever.heal("f0") == {"bytes_discarded": 9, "connections_reset": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    quiet_writer.write(b"hello")
    quiet_writer.write_eof()
    assert await quiet_server_reader.read() == b"hello"
