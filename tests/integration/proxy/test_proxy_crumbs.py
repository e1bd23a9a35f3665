"""Streams cut into single bytes: the loop serves everybody else meanwhile, and memory stays within its bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from chaos.faults.network import paced
from chaos.faults.network.end import WRITE_BYTES_HIGH, End
from chaos.faults.network.paced import CHUNKS_HIGH, PIECES_AT_ONCE, PacedStage
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxic import Toxic
from chaos.faults.network.toxics.latency import LatencyToxic
from chaos.faults.network.toxics.limit import LimitToxic
from chaos.faults.network.toxics.slicer import SlicerToxic

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]

FLOOD = bytes(range(256)) * 128


class Longest:
    """Sends count how many there were between two turns of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sends = 0
        self.most = 0
        write = End.write

        def _counting(end: End, data: bytes | memoryview) -> bool:
            self.sends += 1
            return write(end, data)

        monkeypatch.setattr(End, "write", _counting)

    async def watch(self) -> None:
        """Look in every turn."""
        while True:
            self.most = max(self.most, self.sends)
            self.sends = 0
            await asyncio.sleep(0)


async def test_single_bytes_leave_a_few_at_a_time(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large chunk in pieces of one byte arrives whole, and never blocks the loop for more than some of them."""
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    reader, _ = await dial(proxy.port)
    _, server_writer = await accepted.get()
    await proxy.inject("f0", SlicerToxic(average_bytes=1, side="reply"))
    longest = Longest(monkeypatch)
    watching = asyncio.ensure_future(longest.watch())
    server_writer.write(FLOOD)
    assert await reader.readexactly(len(FLOOD)) == FLOOD
    watching.cancel()
    assert longest.most <= 2 * PIECES_AT_ONCE


def _queued(proxy: Proxy, toxic: Toxic) -> int:
    """Return the items that the only connection's stage of a toxic has in its queue."""
    stages = [stage for link in proxy.connections()[0].links if (stage := link.stage_of(toxic)) is not None]
    assert isinstance(stages[0], PacedStage)
    return len(stages[0]._queue)


async def test_a_stage_behind_that_has_enough_is_waited_for(
    proxy_to: Callable[[int], Proxy],
    accepting: Accepting,
    dial: Dial,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slicer in front of a latency keeps its chunk whole while thousands of its pieces wait there; all arrive."""
    monkeypatch.setattr(paced, "CHUNKS_HIGH", 1000)
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    reader, _ = await dial(proxy.port)
    _, server_writer = await accepted.get()
    slow = LatencyToxic(delay_s=60.0, side="reply")
    await proxy.inject("f0", SlicerToxic(average_bytes=1, side="reply"))
    await proxy.inject("f1", slow)
    server_writer.write(FLOOD)

    async def enough() -> bool:
        return _queued(proxy, slow) >= 1000

    await eventually(enough)
    for _ in range(100):
        await asyncio.sleep(0)
    assert _queued(proxy, slow) <= 1000 + PIECES_AT_ONCE
    await proxy.heal("f1")
    assert await reader.readexactly(len(FLOOD)) == FLOOD


async def test_a_destination_that_takes_no_more_is_waited_for(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, eventually: Eventually
) -> None:
    """Bytes for a reader that does not read stay in their chunks; they arrive once it reads."""
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, proxy.address)
    _, server_writer = await accepted.get()
    (connection,) = proxy.connections()
    end = connection.ends[0]
    assert end._socket is not None
    end._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await proxy.inject("f0", SlicerToxic(average_bytes=1, side="reply"))
    flood = FLOOD * 16
    server_writer.write(flood)

    async def full() -> bool:
        return end.unsent_bytes >= WRITE_BYTES_HIGH

    await eventually(full)
    assert end.unsent_bytes <= WRITE_BYTES_HIGH + PIECES_AT_ONCE
    assert len(end._backlog) <= 2 * WRITE_BYTES_HIGH // 1024
    reader, writer = await asyncio.open_connection(sock=client)
    assert await reader.readexactly(WRITE_BYTES_HIGH // 2) == flood[: WRITE_BYTES_HIGH // 2]
    await proxy.heal("f0")
    assert await reader.readexactly(len(flood) - WRITE_BYTES_HIGH // 2) == flood[WRITE_BYTES_HIGH // 2 :]
    writer.close()


async def test_a_crowd_in_front_of_a_limit_ends_with_it(
    proxy_to: Callable[[int], Proxy], accepting: Accepting, dial: Dial
) -> None:
    """The limit cuts at its byte although the pieces before and behind it leave in different turns."""
    upstream_port, accepted = accepting
    proxy = proxy_to(upstream_port)
    reader, _ = await dial(proxy.port)
    _, server_writer = await accepted.get()
    await proxy.inject("f0", SlicerToxic(average_bytes=1, side="reply"))
    await proxy.inject("f1", LimitToxic(limit_bytes=CHUNKS_HIGH, side="reply"))
    server_writer.write(FLOOD)
    assert await reader.read() == FLOOD[:CHUNKS_HIGH]
