"""Which connections a toxic acts on, and what happens when it is changed, healed or joined by others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults.network.kinds import API_TOXICS, make_toxic
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxics.latency import LatencyToxic
from chaos.faults.network.toxics.noop import NoopToxic

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
ProxyTo = Callable[[int], Proxy]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

CONNECTIONS = 24


async def _opened(proxy: Proxy, dial: Dial, count: int) -> list[Pair]:
    """Open connections one by one, so that their ordinals are known, and see an echo on each."""
    pairs = []
    for _ in range(count):
        reader, writer = await dial(proxy.port)
        writer.write(b"?")
        assert await reader.readexactly(1) == b"?"
        pairs.append((reader, writer))
    return pairs


async def _slow(proxy: Proxy, pairs: list[Pair], eventually: Eventually) -> set[int]:
    """Return the numbers of connections whose bytes a latency of an hour holds, and let them go on afterwards."""
    before = proxy.state().buffered_bytes
    assert before == 0
    slow = set()
    for number, (reader, writer) in enumerate(pairs):
        held = proxy.state().buffered_bytes
        writer.write(b"!")
        arrived = asyncio.ensure_future(reader.readexactly(1))

        async def decided(held: int = held, arrived: asyncio.Future[bytes] = arrived) -> bool:
            return arrived.done() or proxy.state().buffered_bytes > held

        await eventually(decided)
        if not arrived.done():
            slow.add(number)
            arrived.cancel()
            await asyncio.wait([arrived])
    return slow


@pytest.mark.parametrize("open_before", [True, False])
async def test_toxicity_hits_the_connections_that_the_seed_names(
    proxy_to: ProxyTo, echo_port: int, dial: Dial, eventually: Eventually, open_before: bool
) -> None:
    """Open at the injection or made later, it is the ordinal that counts; the others are at full speed."""
    proxy = proxy_to(echo_port)
    toxic = LatencyToxic(delay_s=3600, side="request", toxicity=0.5, seed=11)
    expected = {ordinal for ordinal in range(CONNECTIONS) if toxic.touches(ordinal)}
    assert 0 < len(expected) < CONNECTIONS
    if open_before:
        pairs = await _opened(proxy, dial, CONNECTIONS)
        await proxy.inject("f0", toxic)
    else:
        await proxy.inject("f0", toxic)
        pairs = []
        for number in range(CONNECTIONS):
            pairs.append(await dial(proxy.port))
            await eventually(lambda count=number + 1: _open(proxy, count))
    assert await _slow(proxy, pairs, eventually) == expected


async def test_neighbour_never_rolls_again(
    proxy_to: ProxyTo, echo_port: int, dial: Dial, eventually: Eventually
) -> None:
    """Adding and removing an unrelated toxic leaves every connection's fate as it was (Toxiproxy rolls again)."""
    proxy = proxy_to(echo_port)
    pairs = await _opened(proxy, dial, CONNECTIONS)
    toxic = LatencyToxic(delay_s=3600, side="request", toxicity=0.5, seed=11)
    await proxy.inject("f0", toxic)
    await proxy.inject("f1", NoopToxic(side="request"))
    await proxy.heal("f1")
    await proxy.inject("f2", NoopToxic(side="request", toxicity=0.5, seed=1))
    expected = {ordinal for ordinal in range(CONNECTIONS) if toxic.touches(ordinal)}
    assert await _slow(proxy, pairs, eventually) == expected


async def test_changed_toxicity_reaches_open_connections(
    proxy_to: ProxyTo, echo_port: int, dial: Dial, eventually: Eventually
) -> None:
    """More toxicity brings connections in, less lets go of them and of what they held; an error changes nothing."""
    proxy = proxy_to(echo_port)
    pairs = await _opened(proxy, dial, CONNECTIONS)
    toxic = LatencyToxic.from_attributes({"latency": 3_600_000}, side="request", toxicity=0, seed=11)
    await proxy.inject("f0", toxic)
    assert await _slow(proxy, pairs, eventually) == set()
    toxic.update({}, 0.5)
    with pytest.raises(ValueError, match="toxicity"):
        toxic.update({"latency": 0}, 7)
    expected = {ordinal for ordinal in range(CONNECTIONS) if toxic.touches(ordinal)}
    assert await _slow(proxy, pairs, eventually) == expected
    toxic.update({}, 0)
    assert [await pairs[number][0].readexactly(1) for number in sorted(expected)] == [b"!"] * len(expected)
    assert await _slow(proxy, pairs, eventually) == set()


async def test_update_reaches_what_waits(proxy_to: ProxyTo, echo_port: int, dial: Dial, eventually: Eventually) -> None:
    """A chunk that is held for an hour leaves when the delay is lowered; a healed toxic is out of reach."""
    proxy = proxy_to(echo_port)
    ((reader, writer),) = await _opened(proxy, dial, 1)
    toxic = LatencyToxic.from_attributes({"latency": 3_600_000}, side="request", toxicity=1, seed=0)
    await proxy.inject("f0", toxic)
    writer.write(b"late")
    await eventually(lambda: _holds(proxy, 4))
    toxic.update({"latency": 1})
    assert await reader.readexactly(4) == b"late"
    await proxy.heal("f0")
    toxic.update({"latency": 3_600_000})
    writer.write(b"soon")
    assert await reader.readexactly(4) == b"soon"


async def test_connection_brought_in_later_takes_its_place_in_the_chain(
    proxy_to: ProxyTo, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """The order of a chain is that of the injections, on every connection: a limit before a latency counts first."""
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    _, writer = await dial(proxy.port)
    server_reader, _ = await accepted.get()
    await eventually(lambda: _open(proxy, 1))
    limit = API_TOXICS["limit_data"].from_attributes({"bytes": 2}, side="request", toxicity=0, seed=0)
    await proxy.inject("limit", limit)
    await proxy.inject("latency", LatencyToxic(delay_s=3600, side="request"))
    limit.update({}, 1)
    writer.write(b"four")
    await eventually(lambda: _holds(proxy, 2))  # a limit behind the latency would let all four wait
    await proxy.heal("latency")
    assert await server_reader.read() == b"fo"


LOSSLESS: dict[str, dict[str, Any]] = {
    "network.latency": {"delay_s": 0.002, "jitter_s": 0.002},
    "network.bandwidth": {"rate_bytes": 20_000_000},
    "network.slicer": {"average_bytes": 700, "variation_bytes": 300},
    "network.slow_close": {"delay_s": 0.002},
    "network.noop": {},
}


@settings(max_examples=40, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=60_000),
    cuts=st.lists(st.integers(0, 60_000), max_size=8),
    kinds=st.lists(st.sampled_from(sorted(LOSSLESS)), max_size=4),
    healed=st.integers(0, 4),
)
def test_any_chain_of_slow_toxics_keeps_every_byte_in_order(
    data: bytes, cuts: list[int], kinds: list[str], healed: int
) -> None:
    """What comes back from an echo server is what was sent, also when toxics go while bytes are on their way."""
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    assert asyncio.run(_through(pieces, kinds, healed)) == data


async def _through(pieces: list[bytes], kinds: list[str], healed: int) -> bytes:
    async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
        proxy = Proxy("echo", server.sockets[0].getsockname())
        proxy.listen()
        for number, kind in enumerate(kinds):
            await proxy.inject(f"f{number}", make_toxic(kind, {**LOSSLESS[kind], "seed": number}))
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        answer = asyncio.create_task(reader.read())
        for number, piece in enumerate(pieces):
            writer.write(piece)
            await writer.drain()
            if number == healed:
                await proxy.heal("f0")
        writer.write_eof()
        received = await answer
        writer.close()
        await writer.wait_closed()
        proxy.close()
    return received


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=8), limit_bytes=st.integers(0, 12_000))
def test_limit_is_exact_however_the_bytes_come(sizes: list[int], limit_bytes: int) -> None:
    """The server gets the first bytes up to the limit, or all of them if there are fewer, and not one more."""
    data = bytes(number % 251 for number in range(sum(sizes)))
    assert asyncio.run(_limited(data, sizes, limit_bytes)) == data[:limit_bytes]


async def _limited(data: bytes, sizes: list[int], limit_bytes: int) -> bytes:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())
        writer.close()

    async with await asyncio.start_server(collect, "127.0.0.1", 0) as server:
        proxy = Proxy("sink", server.sockets[0].getsockname())
        proxy.listen()
        await proxy.inject("f0", make_toxic("network.limit", {"limit_bytes": limit_bytes, "side": "request"}))
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        start = 0
        for size in sizes:
            writer.write(data[start : start + size])
            start += size
            await asyncio.sleep(0)
        writer.write_eof()
        arrived = await received
        writer.transport.abort()
        proxy.close()
        await asyncio.sleep(0)
    return arrived


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


LEAKY: dict[str, dict[str, Any]] = {
    "network.latency": {"delay_s": 3600},
    "network.bandwidth": {"rate_bytes": 1},
    "network.slicer": {"average_bytes": 1, "delay_s": 10},
    "network.slow_close": {"delay_s": 3600},
    "network.loss": {"rate": 0.9, "correlation": 1},
    "network.noop": {},
    "network.limit": {"limit_bytes": 1_000_000},
    "network.partition": {"mode": "stall"},
    "network.slow_accept": {"delay_s": 3600, "cut": False},
    "network.reset_on_accept": {"cut": False},
    "network.drop_syn": {"cut": False},
    "network.refuse": {"cut": False},
    "network.flapping": {"up_s": 3600, "down_s": 3600, "how": "stall"},
}


@pytest.mark.parametrize("kind", LEAKY)
async def test_heal_leaves_nothing_behind(proxy_to: ProxyTo, echo_port: int, dial: Dial, kind: str) -> None:
    """No timer, no task, no byte held, no paused link; the connection works on, and the fast path is back."""
    proxy = proxy_to(echo_port)
    ((reader, writer),) = await _opened(proxy, dial, 1)
    tasks = asyncio.all_tasks()
    await proxy.inject("f0", make_toxic(kind, LEAKY[kind]))
    writer.write(b"through it all")
    started_s = time.monotonic()
    while time.monotonic() < started_s + 0.02:
        await asyncio.sleep(0)
    await proxy.heal("f0")
    assert await reader.readexactly(14) == b"through it all"
    state = proxy.state()
    assert (state.buffered_bytes, state.paused_links, state.opening, state.is_listening) == (0, 0, 0, True)
    assert state.faults == {}
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks
    assert not _timers()
    (connection,) = proxy.connections()
    assert all(link.source.relay is not None for link in connection.links)
    assert (await _opened(proxy, dial, 1))[0]


def _timers() -> list[asyncio.TimerHandle]:
    """Return the timers of the loop that would still go off in more than a moment."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]
    return [timer for timer in waiting if not timer.cancelled() and timer.when() > loop.time() + 1]


async def _open(proxy: Proxy, count: int) -> bool:
    return proxy.state().connections == count


async def _holds(proxy: Proxy, size_bytes: int) -> bool:
    return proxy.state().buffered_bytes == size_bytes
