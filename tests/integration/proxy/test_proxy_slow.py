"""Faults that make a connection slow: bandwidth, slicer, loss, slow close, and the noop that only looks like one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.end import READ_BYTES_MAX
from chaos.faults.network.link import HELD_BYTES_HIGH
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxics.bandwidth import BandwidthToxic
from chaos.faults.network.toxics.loss import RETRANSMIT_S, SEGMENT_BYTES

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


def _pattern(size_bytes: int) -> bytes:
    """Return bytes in which a hole or a swap would show."""
    return b"".join(number.to_bytes(4, "big") for number in range(size_bytes // 4))


async def test_bandwidth_takes_the_time_that_the_rate_asks_for(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """So many bytes at so many a second; the other direction is not slowed, and what arrives is what was sent."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, server_writer = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.bandwidth", {"rate_bytes": 200_000, "side": "request"})
    data = _pattern(60_000)
    started_s = time.monotonic()
    writer.write(data)
    server_writer.write(data)
    assert await reader.readexactly(len(data)) == data
    assert (await proxies.state())["redis"].request_bytes < len(data)
    assert await server_reader.readexactly(len(data)) == data
    assert time.monotonic() - started_s >= 0.29
    assert await lever.heal("f0") == {"bytes_delayed": len(data)}


async def test_bandwidth_sends_pieces_as_time_passes(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A large chunk does not wait for its own end: a tenth of a second's worth arrives, and the rest is held."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.bandwidth", {"rate_bytes": 10_000})
    data = _pattern(1_000_000)
    writer.write(data)
    assert await server_reader.readexactly(1000) == data[:1000]

    async def holds() -> bool:
        return (await proxies.state())["redis"].buffered_bytes > 0

    await eventually(holds)
    assert (await proxies.state())["redis"].request_bytes < 100_000
    await lever.heal("f0")
    assert await server_reader.readexactly(len(data) - 1000) == data[1000:]


async def test_bandwidth_holds_a_bounded_amount(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A slow line makes the proxy stop reading; nothing of what waits in the kernel is lost."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.bandwidth", {"rate_bytes": 1})
    data = _pattern(16 * 1024 * 1024)
    writer.write(data)
    writer.write_eof()

    async def paused() -> bool:
        return (await proxies.state())["redis"].paused_links == 1

    await eventually(paused)
    assert (await proxies.state())["redis"].buffered_bytes < HELD_BYTES_HIGH + READ_BYTES_MAX
    await lever.heal("f0")
    assert await server_reader.read() == data


async def test_bandwidth_of_zero_keeps_everything_until_the_rate_is_raised(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Nothing passes and nothing is lost, and an update reaches what waits already."""
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    _, writer = await dial(proxy.port)
    server_reader, _ = await accepted.get()
    toxic = BandwidthToxic.from_attributes({}, side="request", toxicity=1, seed=0)
    await proxy.inject("f0", toxic)
    writer.write(b"waits")
    await eventually(lambda: _holds(proxy, 5))
    toxic.update({"rate": 1})
    assert await server_reader.readexactly(5) == b"waits"
    writer.write(b"!")
    assert await server_reader.readexactly(1) == b"!"


async def test_slicer_cuts_into_pieces_of_the_sizes_asked_for(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """With a pause behind each piece a reader sees them one by one; together they are what was sent."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    arguments = {"average_bytes": 100, "variation_bytes": 50, "delay_s": 0.02, "side": "request", "seed": 7}
    await lever.inject("f0", "network.slicer", arguments)
    data = _pattern(1000)
    writer.write(data)
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < len(data):
        pieces.append(await server_reader.read(10_000))
    assert b"".join(pieces) == data
    assert len(pieces) > 1
    assert min(map(len, pieces)) <= 150
    assert await lever.heal("f0") == {"chunks_sliced": 1}


async def test_slicer_leaves_short_chunks_whole(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """What is no longer than the longest piece is not cut, and is no evidence."""
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", echo_port))
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.slicer", {"average_bytes": 100, "variation_bytes": 50})
    writer.write(b"x" * 150)
    assert await reader.readexactly(150)
    assert await lever.heal("f0") == {}


async def test_lost_segment_stalls_the_stream_and_loses_no_byte(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """What is before the lost segment arrives; it and all behind it come a retransmission later, in order."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    # with this seed the eighth draw is a loss, and those before it are not
    await lever.inject("f0", "network.loss", {"rate": 0.1, "side": "request", "seed": 11})
    data = _pattern(20 * SEGMENT_BYTES)
    started_s = time.monotonic()
    writer.write(data)
    assert await server_reader.readexactly(SEGMENT_BYTES) == data[:SEGMENT_BYTES]
    assert (await proxies.state())["redis"].request_bytes < len(data)
    assert await server_reader.readexactly(len(data) - SEGMENT_BYTES) == data[SEGMENT_BYTES:]
    evidence = await lever.heal("f0")
    assert int(evidence["segments_lost"]) > 0
    assert time.monotonic() - started_s >= RETRANSMIT_S


async def test_loss_lets_everything_go_when_healed(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A segment that waits for its retransmission does not outlive the fault."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    # correlation 1 repeats the first draw, and this seed's first draw is a loss: a stall of fifty seconds
    await lever.inject("f0", "network.loss", {"rate": 0.9, "correlation": 1, "side": "request", "seed": 0})
    writer.write(b"late")

    async def held() -> bool:
        return (await proxies.state())["redis"].buffered_bytes == 4

    await eventually(held)
    evidence = await lever.heal("f0")
    assert await server_reader.readexactly(4) == b"late"
    assert int(evidence["segments_lost"]) == 8
    assert (await proxies.state())["redis"].buffered_bytes == 0


async def test_slow_close_delays_the_end_and_no_byte(proxies: ProxyProcess, accepting: Accepting, dial: Dial) -> None:
    """Bytes pass at once, the end of file arrives later."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.slow_close", {"delay_s": 0.2, "side": "request"})
    started_s = time.monotonic()
    writer.write(b"bye")
    writer.write_eof()
    assert await server_reader.readexactly(3) == b"bye"
    assert not server_reader.at_eof()
    assert await server_reader.read() == b""
    assert time.monotonic() - started_s >= 0.2
    assert await lever.heal("f0") == {"ends_delayed": 1}


async def test_slow_close_delays_a_reset_and_the_heal_ends_the_wait(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A store believes in a client that was reset, until the heal."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.slow_close", {"delay_s": 60})
    writer.get_extra_info("socket").setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER: the close sends RST
    writer.transport.abort()

    async def waits() -> bool:
        return (await proxies.state())["redis"].faults["f0"].get("ends_delayed") == 1

    await eventually(waits)
    assert not server_reader.at_eof()
    await lever.heal("f0")
    with pytest.raises(ConnectionResetError):
        await server_reader.read()


async def test_noop_counts_and_changes_nothing(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """The control of an experiment: bytes cross as ever, and the evidence says how many chunks did."""
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", echo_port))
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.noop", {"side": "both"})
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    assert await lever.heal("f0") == {"chunks_passed": 2}


async def _holds(proxy: Proxy, size_bytes: int) -> bool:
    return proxy.state().buffered_bytes == size_bytes
