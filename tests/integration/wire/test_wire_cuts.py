"""Cuts beside other faults and slow peers: what lies before the point arrives, and nothing behind it ever does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from wire_bench import Bench, Near, eventually, packed

from chaos.faults import Cut, Hold, Seen
from chaos.faults.network.connection import CUTS
from chaos.faults.network.journal import Journal
from chaos.faults.network.resp.rule import OnCommandToxic

pytestmark = pytest.mark.requires("redis")

BIG_BYTES = 7 * 1024 * 1024
LATE = {"delay_s": 60.0}
ENDS = {"rst": "reset", "fin": "end of file", "half_close": "end of file", "stall": "reset", "discard": "reset"}
"""What a client sees in the end, after the heal at the latest."""


class Plain:
    """A socket without any buffer of its own, so that what arrives before a reset is not lost to who reads late."""

    def __init__(self, bench: Bench) -> None:
        """Take little at once."""
        self._port = bench.port
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.socket.setblocking(False)
        bench.stack.callback(self.socket.close)

    async def send(self, *commands: bytes) -> None:
        """Connect, and send commands in one go."""
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self.socket, ("127.0.0.1", self._port))
        await loop.sock_sendall(self.socket, b"".join(commands))

    async def read(self, count: int) -> bytes:
        """Return that many bytes."""
        received = b""
        async with asyncio.timeout(10):
            while len(received) < count:
                data = await asyncio.get_running_loop().sock_recv(self.socket, count - len(received))
                assert data
                received += data
        return received

    async def end(self) -> tuple[bytes, str]:
        """Return what still arrives, and how it ends."""
        received = bytearray()
        async with asyncio.timeout(20):
            while True:
                try:
                    data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20)
                except ConnectionResetError:
                    return bytes(received), "reset"
                if not data:
                    return bytes(received), "end of file"
                received += data


async def ran(bench: Bench, times: str) -> None:
    """Wait until INCR n was executed so often."""

    async def reached() -> bool:
        return bool(await bench.server_says("GET", "n") == times.encode())

    await eventually(reached)


@pytest.mark.parametrize("how", CUTS)
async def test_a_late_request_arrives_before_the_cut_behind_it(bench: Bench, how: str) -> None:
    """After the request means that the server runs it, although another fault would have it wait for a minute."""
    late = await bench.lever.inject("late", "network.latency", {**LATE, "side": "request"})
    assert late == {}
    fault = await bench.arm("INCR", Cut(how), at="after_request")
    client = Plain(bench)
    await client.send(packed("INCR", "n"))
    if how != "half_close":  # there requests go on, as late as ever
        await ran(bench, "1")
    await bench.until(fault, connections_cut=1)
    await bench.lever.heal("late")
    await ran(bench, "1")
    await bench.heal(fault)
    assert await client.end() == (b"", ENDS[how])


@pytest.mark.parametrize("how", CUTS)
async def test_late_bytes_of_a_reply_arrive_before_the_cut_behind_them(bench: Bench, how: str) -> None:
    """The client gets the bytes before the point, and none behind it, although another fault held them back."""
    await bench.server_says("SET", "k", "value")
    await bench.lever.inject("late", "network.latency", {**LATE, "side": "reply"})
    fault = await bench.arm("GET", Cut(how), at="reply_byte", byte=3)
    client = Plain(bench)
    await client.send(packed("GET", "k"), packed("GET", "k"))
    assert await client.read(3) == b"$5\r"
    await bench.lever.heal("late")
    await bench.heal(fault)
    assert await client.end() == (b"", ENDS[how])


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("byte", [-1, BIG_BYTES // 2])
async def test_a_slow_reader_gets_all_before_the_cut(bench: Bench, how: str, byte: int) -> None:
    """However long it takes to read, a cut takes nothing away that lies before its point."""
    await bench.server_says("SET", "k", b"x" * BIG_BYTES)
    fault = await bench.arm("GET", Cut(how), at="reply_byte", byte=byte)
    client = Plain(bench)
    await client.send(packed("GET", "k"), packed("ECHO", "behind"))
    await bench.until(fault, connections_cut=1)
    whole = b"$%d\r\n%s\r\n" % (BIG_BYTES, b"x" * BIG_BYTES)
    assert await client.read(len(whole[:byte])) == whole[:byte]
    if how in ("stall", "discard"):
        assert await bench.server_says("PING") == b"PONG"
        await bench.heal(fault)
    assert await client.end() == (b"", ENDS[how])


@pytest.mark.parametrize("how", CUTS)
async def test_a_heal_does_not_mend_a_cut_that_waits_for_its_reader(bench: Bench, how: str) -> None:
    """Nothing comes behind a reply that was cut short: the heal carries out the cut at once."""
    await bench.server_says("SET", "k", b"x" * BIG_BYTES)
    fault = await bench.arm("GET", Cut(how), at="reply_byte", byte=-3)
    client = Plain(bench)
    await client.send(packed("GET", "k"))
    await bench.until(fault, connections_cut=1)
    await asyncio.get_running_loop().sock_sendall(client.socket, packed("ECHO", "behind"))
    evidence = await bench.heal(fault)
    assert evidence["connections_cut"] == 1
    assert evidence.get("connections_reset", 0) == int(how not in ("rst", "fin"))
    received, end = await client.end()
    assert end == ("end of file" if how == "fin" else "reset")
    whole = b"$%d\r\n%s" % (BIG_BYTES, b"x" * (BIG_BYTES - 1))
    assert whole.startswith(received)
    assert how != "fin" or received == whole


@pytest.mark.parametrize("how", CUTS)
async def test_a_request_that_was_cut_behind_was_sent_on(bench: Bench, how: str) -> None:
    """Who waits to see it go on to the server goes on, once for each."""
    held, other = await bench.dial(), await bench.dial()
    hold = await bench.arm("INCR", Hold(until=Seen("SET", nth=2)))
    held.send("INCR", "n")
    await bench.until(hold, frames_held=1)
    cut = await bench.arm("SET", Cut(how), at="after_request", times=1)
    other.send("SET", "k", "v")
    await bench.until(cut, connections_cut=1)
    assert (await bench.evidence(hold)).get("frames_released", 0) == 0
    assert await (await bench.dial()).ask("SET", "k", "w") == b"OK"
    assert await held.reply() == 1
    assert (await bench.evidence(hold))["frames_released"] == 1


async def test_a_cut_waits_for_what_a_stall_keeps(bench: Bench) -> None:
    """A request that another fault holds is not lost to the cut behind it: the server runs it when it is let go."""
    line = await bench.dial()
    hold = await bench.arm("GET", Hold(), key="first")
    line.writer.write(packed("GET", "first") + packed("INCR", "n"))
    await bench.until(hold, frames_held=1)
    cut = await bench.arm("INCR", Cut("rst"), at="after_request")
    await bench.lever.inject("stall", "network.partition", {"side": "request", "mode": "stall"})
    await bench.heal(hold)
    await bench.until(cut, connections_cut=1)
    await bench.lever.heal("stall")
    await ran(bench, "1")
    answers: list[Any] = []
    with pytest.raises(ConnectionResetError):
        answers.append(await line.reply())
    assert answers == []


@pytest.mark.parametrize("how", CUTS)
async def test_a_heal_lets_nothing_pass_behind_a_cut_that_waits(near: Near, how: str) -> None:
    """A frame that comes while a cut waits, or behind the heal, is not taken for the rest of the one that was cut."""
    line = await near.dial()
    assert await line.ask("SET", "k", "value") == b"OK"
    (connection,) = near.proxy.connections()
    near.proxy.keep_journal(Journal(str(near.wire), frames=True, start_ns=0))
    assert await line.ask("PING") == b"PONG"
    rule = OnCommandToxic(command="GET", do=Cut(how).arguments(), at="reply_byte", byte=3)
    await near.proxy.inject("f0", rule)
    connection.ends[0].unsent_bytes += 1  # as if the client's kernel had no room
    line.send("GET", "k")
    assert await line.reader.readexactly(3) == b"$5\r"
    line.send("ECHO", "early")
    await (await near.dial()).ask("PING")
    assert connection.how_cut is None
    await near.proxy.heal("f0")
    assert connection.how_cut == (how if how == "fin" else "rst")
    line.send("ECHO", "late")
    rest = b""
    with contextlib.suppress(ConnectionResetError):
        rest = await line.end()
    assert rest == b""
