"""The data path without a fault: the proxy changes nothing that a client or a server can see, but time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chaos.faults.network.proxy
from chaos._channel import Channel
from chaos._process import Child
from chaos.backends.ports import Reservation
from chaos.errors import HarnessError
from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.end import WRITE_BYTES_HIGH
from chaos.faults.network.link import HELD_BYTES_HIGH
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxics.latency import LatencyToxic

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

READ_BYTES_MAX = 256 * 1024
"""What asyncio reads from a socket at once."""


async def test_half_close_passes_and_the_late_reply_arrives(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """The server sees the client's end of file, and what it answers after that still comes back."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    writer.write(b"question")
    writer.write_eof()
    server_reader, server_writer = await accepted.get()
    assert await server_reader.read() == b"question"
    server_writer.write(b"answer")
    server_writer.close()
    assert await reader.read() == b"answer"


async def test_ended_connections_leave_nothing_behind(
    proxies: ProxyProcess, echo_port: int, dial: Dial, eventually: Eventually
) -> None:
    """After both sides have closed, the proxy holds no connection and has counted every byte."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    for _ in range(3):
        reader, writer = await dial(port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()

    async def idle() -> bool:
        return (await proxies.state())["redis"].connections == 0

    await eventually(idle)
    state = (await proxies.state())["redis"]
    assert (state.request_bytes, state.reply_bytes, state.connections_total) == (15, 15, 3)
    assert (state.opening, state.buffered_bytes, state.failed_dials) == (0, 0, 0)


async def test_unreachable_upstream_resets_the_client(proxies: ProxyProcess, dial: Dial) -> None:
    """A client learns that nobody is behind the proxy by a reset, not by an orderly end."""
    with Reservation() as nobody:
        port = await proxies.add("redis", "127.0.0.1", nobody.port)
        with pytest.raises(ConnectionResetError):
            await _read_all(dial, port)
    assert (await proxies.state())["redis"].failed_dials == 1


async def test_upstream_that_does_not_answer_the_dial_resets_the_client(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream whose backlog is full drops the SYN; the dial gives up and the client is reset."""
    monkeypatch.setattr(chaos.faults.network.proxy, "DIAL_TIMEOUT_S", 0.05)
    with socket.socket() as upstream:
        upstream.bind(("127.0.0.1", 0))
        upstream.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(upstream.getsockname())
        proxy = Proxy("redis", upstream.getsockname())
        proxy.listen()
        with pytest.raises(ConnectionResetError):
            await _read_all(dial, proxy.port)
        assert proxy.state().failed_dials == 1
        proxy.close()
        for filler in fillers:
            filler.close()


async def test_reset_by_the_server_reaches_the_client_as_a_reset(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """An RST is passed on as an RST, downstream."""
    upstream_port, accepted = accepting
    reader, _ = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    _, server_writer = await accepted.get()
    _abort(server_writer)
    with pytest.raises(ConnectionResetError):
        await reader.read()


async def test_reset_by_the_client_reaches_the_server_as_a_reset(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """An RST is passed on as an RST, upstream."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    _abort(writer)
    with pytest.raises(ConnectionResetError):
        await server_reader.read()


async def test_slow_reader_slows_the_sender_and_memory_stays_bounded(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """While nobody reads, the proxy stops reading too; once somebody does, every byte arrives."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    payload = bytes(32 * 1024 * 1024)
    writer.write(payload)
    writer.write_eof()
    server_reader, _ = await accepted.get()

    async def paused() -> bool:
        return (await proxies.state())["redis"].paused_links == 1

    await eventually(paused)
    assert (await proxies.state())["redis"].buffered_bytes <= WRITE_BYTES_HIGH + READ_BYTES_MAX
    total = 0
    while data := await server_reader.read(1024 * 1024):
        total += len(data)
        assert (await proxies.state())["redis"].buffered_bytes <= WRITE_BYTES_HIGH + READ_BYTES_MAX
    assert total == len(payload)


async def test_latency_holds_a_bounded_amount(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A long delay does not make the proxy take in everything that a client can send meanwhile."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.latency", {"delay_s": 60.0})
    payload = bytes(range(256)) * 64 * 1024
    writer.write(payload)
    writer.write_eof()

    async def paused() -> bool:
        return (await proxies.state())["redis"].paused_links == 1

    await eventually(paused)
    assert HELD_BYTES_HIGH <= (await proxies.state())["redis"].buffered_bytes < HELD_BYTES_HIGH + READ_BYTES_MAX
    await lever.heal("f0")
    assert await server_reader.read() == payload


@settings(max_examples=30, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=200_000),
    cuts=st.lists(st.integers(0, 200_000), max_size=20),
    jitter_ms=st.sampled_from([0, 0, 2]),
)
def test_any_bytes_in_any_pieces_arrive_identical(data: bytes, cuts: list[int], jitter_ms: int) -> None:
    """What comes back from an echo server through the proxy, with or without jitter, is what was sent."""
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    assert asyncio.run(_through_the_proxy(pieces, jitter_ms / 1000)) == data


async def _through_the_proxy(pieces: list[bytes], jitter_s: float) -> bytes:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        proxy = Proxy("echo", server.sockets[0].getsockname())
        proxy.listen()
        if jitter_s:
            await proxy.inject("f0", LatencyToxic(delay_s=jitter_s, jitter_s=jitter_s, seed=len(pieces)))
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        answer = asyncio.create_task(reader.read())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        received = await answer
        writer.close()
        await writer.wait_closed()
        proxy.close()
    return received


async def test_closing_the_channel_ends_the_process_and_its_connections(
    spawned: tuple[Channel, Child], proxies: ProxyProcess, echo_port: int, dial: Dial
) -> None:
    """A proxy does not outlive its harness, faults or not."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    reader, writer = await dial(port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    await proxies.lever("redis").inject("f0", "network.partition", {})
    channel, child = spawned
    channel.close()
    assert await child.wait(10) == 0
    assert await _ended(reader)
    with pytest.raises(ConnectionRefusedError):
        await dial(port)
    with pytest.raises(HarnessError, match="no process to ask"):
        await proxies.state()


async def test_remove_resets_connections_and_gives_the_port_back(
    proxies: ProxyProcess, echo_port: int, dial: Dial
) -> None:
    """After remove the name and the port are free again, and faults of that proxy are forgotten."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    reader, writer = await dial(port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    await proxies.lever("redis").inject("f0", "network.latency", {"delay_s": 1.0})
    await proxies.remove("redis")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionRefusedError):
        await dial(port)
    assert await proxies.lever("redis").heal("f0") == {}
    assert await proxies.add("redis", "127.0.0.1", echo_port, listen_port=port) == port


async def test_remove_lets_go_of_connections_that_a_partition_keeps_waiting(
    proxies: ProxyProcess, echo_port: int, dial: Dial, eventually: Eventually
) -> None:
    """A connection that was never let in is reset as well."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    await proxies.lever("redis").inject("f0", "network.partition", {})
    reader, _ = await dial(port)

    async def waits() -> bool:
        return (await proxies.state())["redis"].opening == 1

    await eventually(waits)
    await proxies.remove("redis")
    with pytest.raises(ConnectionResetError):
        await reader.read()


async def test_mistakes_are_answered_with_their_reason(proxies: ProxyProcess, echo_port: int) -> None:
    """A wrong name, kind, argument or an id in use is told and changes nothing."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.latency", {"delay_s": 1.0})
    with pytest.raises(HarnessError, match="name='redis' is in use"):
        await proxies.add("redis", "127.0.0.1", echo_port)
    with pytest.raises(HarnessError, match="Address already in use"):
        await proxies.add("other", "127.0.0.1", echo_port, listen_port=port)
    with pytest.raises(HarnessError, match="must be one of redis"):
        await proxies.lever("reddis").inject("f1", "network.latency", {"delay_s": 1.0})
    with pytest.raises(HarnessError, match=r"must be one of network\.bandwidth, network\.disconnect"):
        await lever.inject("f1", "network.lag", {})
    with pytest.raises(HarnessError, match="do not fit"):
        await lever.inject("f1", "network.latency", {"delay_ms": 1.0})
    with pytest.raises(HarnessError, match="side='left' must be one of request, reply, both"):
        await lever.inject("f1", "network.partition", {"side": "left"})
    with pytest.raises(HarnessError, match="fault_id='f0' is in use"):
        await lever.inject("f0", "network.refuse", {})
    with pytest.raises(HarnessError, match="op='explode' must be one of"):
        await proxies.call("explode", {})
    assert (await proxies.state())["redis"].faults == {"f0": {}}
    assert (await proxies.state())["redis"].is_listening


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def _read_all(dial: Dial, port: int) -> bytes:
    """Connect and read; a reset may come before asyncio has noticed that the connection was made."""
    reader, _ = await dial(port)
    return await reader.read()


async def _ended(reader: asyncio.StreamReader) -> bool:
    """Tell whether a read reports any end of the connection."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True
