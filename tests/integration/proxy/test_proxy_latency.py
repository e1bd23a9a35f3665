"""Latency: bytes come late, in order and complete, on the sides that were named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

from chaos.faults import Latency
from chaos.faults.base import DiskLever, NetworkLever
from chaos.faults.network.client import ProxyProcess

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


async def _exchange(pair: Pair, data: bytes) -> float:
    """Send bytes to an echo server, wait for them, and return how long that took in seconds."""
    reader, writer = pair
    started_s = time.monotonic()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return time.monotonic() - started_s


async def test_round_trip_takes_a_delay_each_way_until_healed(
    proxies: ProxyProcess, echo_port: int, dial: Dial
) -> None:
    """Open and new connections are slow while it holds; the evidence counts every chunk; another proxy is not."""
    pair = await dial(await proxies.add("redis", "127.0.0.1", echo_port))
    other = await dial(await proxies.add("other", "127.0.0.1", echo_port))
    await _exchange(pair, b"warm up")
    lever = proxies.lever("redis")
    assert await lever.inject("f0", "network.latency", {"delay_s": 0.1, "side": "both", "seed": 1}) == {}
    assert await _exchange(pair, b"slow") >= 0.2
    assert await _exchange(await dial((await proxies.state())["redis"].port), b"slow too") >= 0.2
    assert await _exchange(other, b"at once") < 0.1
    assert await lever.heal("f0") == {"chunks_delayed": 4}
    assert await lever.heal("f0") == {}
    assert min([await _exchange(pair, b"fast again") for _ in range(5)]) < 0.1


async def test_one_side_delays_one_direction(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """With the reply side held for a minute the request arrives, and only the reply waits."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, server_writer = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.latency", {"delay_s": 60.0, "side": "reply"})
    writer.write(b"ping")
    assert await server_reader.readexactly(4) == b"ping"
    server_writer.write(b"pong")

    async def held() -> bool:
        return (await proxies.state())["redis"].buffered_bytes == 4

    await eventually(held)
    assert await lever.heal("f0") == {"chunks_delayed": 1}
    assert await reader.readexactly(4) == b"pong"


async def test_jitter_keeps_order_and_the_lower_bound(proxies: ProxyProcess, accepting: Accepting, dial: Dial) -> None:
    """Chunks that were sent one by one arrive in that order, none before delay - jitter; the end comes last."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    arguments = {"delay_s": 0.1, "jitter_s": 0.01, "side": "request", "seed": 3}
    await proxies.lever("redis").inject("f0", "network.latency", arguments)
    sent_s = [time.monotonic()]
    while sent_s[-1] < sent_s[0] + 0.06:
        writer.write(b"%d\n" % len(sent_s))
        await proxies.state()  # a round trip to the proxy, so that most lines are chunks of their own
        sent_s.append(time.monotonic())
    sent_s.pop()
    writer.write_eof()
    arrived = []
    while line := await server_reader.readline():
        arrived.append((line, time.monotonic()))
    assert [int(line) for line, _ in arrived] == list(range(1, len(sent_s) + 1))
    assert all(at_s - start_s >= 0.09 for start_s, (_, at_s) in zip(sent_s, arrived, strict=True))
    evidence = await proxies.lever("redis").heal("f0")
    assert int(evidence["chunks_delayed"]) > 1


async def test_heal_passes_on_what_is_held(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Nothing is lost by a heal, and what is sent after it stays behind what was held."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.latency", {"delay_s": 60.0})
    writer.write(b"first,")

    async def held() -> bool:
        return (await proxies.state())["redis"].buffered_bytes == len(b"first,")

    await eventually(held)
    await lever.heal("f0")
    writer.write(b"second")
    writer.write_eof()
    assert await server_reader.read() == b"first,second"


async def test_two_latencies_add_up(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """Faults on one link form a chain; healing one leaves the other."""
    pair = await dial(await proxies.add("redis", "127.0.0.1", echo_port))
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.latency", {"delay_s": 0.1, "side": "request"})
    await lever.inject("f1", "network.latency", {"delay_s": 0.1, "side": "request"})
    assert await _exchange(pair, b"twice") >= 0.2
    await lever.heal("f0")
    assert await _exchange(pair, b"once") >= 0.1
    assert (await proxies.state())["redis"].faults == {"f1": {"chunks_delayed": 2}}


class _Levers:
    """The levers of an environment that has one proxy and nothing else."""

    def __init__(self, lever: NetworkLever) -> None:
        self._lever = lever

    def network(self, store: str) -> NetworkLever:
        return {"redis": self._lever}[store]

    def disk(self, store: str) -> DiskLever:
        raise KeyError(store)

    async def signal(self, target: str, signal_number: int) -> int:
        raise ProcessLookupError(target)

    async def wait_gone(self, target: str, pid: int, timeout_s: float) -> bool:
        raise ProcessLookupError(target)

    def lock(self, store: str) -> int:
        raise ProcessLookupError(store)

    async def empty(self, target: str) -> dict[str, int]:
        raise ProcessLookupError(target)

    async def revive(self, target: str) -> None:
        raise ProcessLookupError(target)


async def test_declared_latency_lands(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """The declared fault reaches the proxy through the levers, and its evidence says that it bit."""
    pair = await dial(await proxies.add("redis", "127.0.0.1", echo_port))
    levers = _Levers(proxies.lever("redis"))
    fault = Latency("redis", "50ms", jitter="10ms", side="request")
    injection = await fault.inject(levers, "f0", Random(1))
    assert not fault.landed(injection.evidence)
    assert await _exchange(pair, b"slow") >= 0.04
    evidence = await fault.heal(levers, injection)
    assert evidence == {"chunks_delayed": 1}
    assert fault.landed(evidence)
    assert await fault.heal(levers, injection) == evidence
