"""One end of a proxied connection over a real TCP connection, on any loop and on the proxy's own."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from chaos.faults.network.end import WRITE_BYTES_HIGH, WRITE_BYTES_LOW, End, Item, Signal
from chaos.faults.network.pump import new_loop


class CountingEnd(End):
    """An end that counts how often it is served."""

    def __init__(self) -> None:
        """Start at 0."""
        super().__init__()
        self.served = 0

    def _ready(self, events: int) -> None:
        self.served += 1
        super()._ready(events)


class Watched:
    """An end on one side of a connection, what it told, and the plain socket on the other side."""

    def __init__(self) -> None:
        """Connect; the end has no socket yet."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.peer = socket.create_connection(server.getsockname(), timeout=5)
            self.sock, _ = server.accept()
        self.sock.setblocking(False)
        self.end = CountingEnd()
        self.items: list[Item] = []
        self.throttled: list[bool] = []
        self.losses = 0
        self.end.receive = self.items.append
        self.end.throttle = self.throttled.append
        self.end.lost = self._lost

    def _lost(self, _: End) -> None:
        self.losses += 1

    def fill(self) -> bytes:
        """Write numbered pieces until the kernel and the end have had enough; return all of them."""
        written = b""
        number = 0
        while not self.throttled:
            piece = number.to_bytes(4, "big") * 4096
            assert self.end.write(piece)
            written += piece
            number += 1
        return written

    def reset_peer(self) -> None:
        """Have the other side reset the connection."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.peer.close()

    async def is_left_alone(self) -> bool:
        """Tell whether the end is served no more, once it has been served all there was."""
        await _turns()
        served = self.end.served
        await _turns()
        return self.end.served == served

    async def read_all(self) -> bytes:
        """Read at the other side until the FIN, giving the loop its turns."""
        self.peer.setblocking(False)
        received = bytearray()
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            await asyncio.sleep(0)
            try:
                data = self.peer.recv(1 << 20)
            except BlockingIOError:
                continue
            if not data:
                return bytes(received)
            received += data
        raise AssertionError(f"no FIN after {len(received)} bytes")


@pytest.fixture(params=[asyncio.new_event_loop, new_loop], ids=["any loop", "own loop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Return a runner of each kind of loop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Return an end that is not attached yet."""
    watched = Watched()
    yield watched
    watched.peer.close()
    watched.sock.close()


def test_backlog_arrives_in_order_and_reading_may_go_on(runner: asyncio.Runner, watched: Watched) -> None:
    """What the kernel does not take is kept, told as too much, sent later, and a FIN waits behind it."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        written = watched.fill()
        assert watched.throttled == [True]
        assert watched.end.unsent_bytes > WRITE_BYTES_HIGH
        watched.end.finish()
        watched.end.finish()
        assert await watched.read_all() == written
        assert watched.throttled == [True, False]
        assert watched.end.unsent_bytes == 0 <= WRITE_BYTES_LOW
        watched.peer.send(b"late reply")
        await _until(lambda: watched.items == [b"late reply"])
        watched.end.reset()

    runner.run(scenario())


def test_backlog_that_goes_out_in_bits_stays_whole(runner: asyncio.Runner, watched: Watched) -> None:
    """A kernel that takes a little at a time, from the middle of a piece, gets every byte once."""
    written = os.urandom(1 << 20)

    async def scenario() -> None:
        watched.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        watched.end.attach(watched.sock)
        for start in range(0, len(written), 1 << 18):
            assert watched.end.write(written[start : start + (1 << 18)])
        assert watched.end.unsent_bytes > len(written) // 2
        watched.end.close()
        assert await watched.read_all() == written

    runner.run(scenario())


def test_a_paused_end_with_a_backlog_hears_of_the_reset(runner: asyncio.Runner, watched: Watched) -> None:
    """Waiting to write is enough to be told that the peer is gone, and the backlog is given up."""

    async def scenario() -> None:
        watched.end.pause("test")
        watched.end.attach(watched.sock)
        watched.fill()
        watched.reset_peer()
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    assert watched.items == [Signal.RST]
    assert watched.end.unsent_bytes == 0


def test_pressure_is_told_anew_each_time(runner: asyncio.Runner, watched: Watched) -> None:
    """A destination that was full and has been emptied can be full again."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        missing = len(watched.fill())
        watched.peer.setblocking(False)
        while missing:
            missing -= len(await asyncio.get_running_loop().sock_recv(watched.peer, 1 << 20))
        await _until(lambda: watched.throttled == [True, False])
        watched.throttled.clear()
        watched.fill()
        assert watched.throttled == [True]
        watched.end.reset()

    runner.run(scenario())


def test_close_sends_what_was_written(runner: asyncio.Runner, watched: Watched) -> None:
    """An orderly close loses nothing, takes nothing more and is told once."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        written = watched.fill()
        watched.end.close()
        watched.end.close()
        assert not watched.end.connected
        assert not watched.end.write(b"more")
        assert await watched.read_all() == written
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    assert watched.losses == 1
    assert watched.items == []


def test_reset_wins_over_backlog_and_close(runner: asyncio.Runner, watched: Watched) -> None:
    """A reset ends at once what an orderly close was still sending, and the peer reads ECONNRESET."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        watched.fill()
        watched.end.close()
        watched.end.reset()
        watched.end.reset()
        assert watched.end.unsent_bytes == 0
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    with pytest.raises(ConnectionResetError):
        _drain(watched.peer)
    assert watched.losses == 1
    assert watched.items == []


def test_reset_right_after_a_close_is_a_reset(runner: asyncio.Runner, watched: Watched) -> None:
    """An end that has nothing to send and was closed a moment ago can still be reset."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        watched.end.close()
        watched.end.reset()
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    with pytest.raises(ConnectionResetError):
        watched.peer.recv(1)


def test_doomed_before_it_has_a_socket(runner: asyncio.Runner, watched: Watched) -> None:
    """An end that was reset while its connection was being made resets it when it comes."""

    async def scenario() -> None:
        watched.end.reset()
        watched.end.attach(watched.sock)
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    with pytest.raises(ConnectionResetError):
        watched.peer.recv(1)


def test_a_paused_end_does_not_spin_and_hears_of_the_reset_later(runner: asyncio.Runner, watched: Watched) -> None:
    """The kernel reports errors to whoever waits for anything; an end that may not read waits for nothing."""

    async def scenario() -> None:
        watched.end.pause("test")
        watched.end.attach(watched.sock)
        watched.end.resume("test")
        watched.end.pause("test")
        watched.end.pause("other")
        watched.peer.send(b"unread")
        watched.reset_peer()
        watched.end.resume("test")
        assert watched.end.paused
        assert watched.end.unread_bytes == len(b"unread")
        await _turns()
        assert watched.end.served == 0
        watched.end.resume("other")
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    assert watched.items == [b"unread", Signal.RST]
    assert watched.losses == 1


def test_an_end_that_can_do_nothing_is_left_alone(runner: asyncio.Runner, watched: Watched) -> None:
    """A FIN that was read, a full kernel buffer, unread bytes behind a close: none is announced again and again."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        written = watched.fill()
        assert await watched.is_left_alone()
        watched.peer.send(b"last words")
        watched.peer.shutdown(socket.SHUT_WR)
        await _until(lambda: watched.items == [b"last words", Signal.FIN])
        assert await watched.is_left_alone()
        watched.end.finish()
        assert await watched.is_left_alone()
        watched.end.close()
        assert await watched.is_left_alone()
        assert await watched.read_all() == written
        await _until(lambda: watched.end.gone)

    runner.run(scenario())


def test_a_reset_while_it_closes_ends_it(runner: asyncio.Runner, watched: Watched) -> None:
    """An end that still sends behind a close hears of the reset and gives up, with bytes unread that nobody wants."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        watched.fill()
        watched.end.close()
        watched.peer.send(b"too late")
        assert await watched.is_left_alone()
        watched.reset_peer()
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    assert watched.losses == 1


def test_a_failing_receiver_of_the_reset_leaves_no_socket(
    runner: asyncio.Runner, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Code of ours that raises when it is told of the reset does not keep the socket open."""

    def fail(_: Item) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        watched.end.receive = fail
        watched.end.attach(watched.sock)
        watched.reset_peer()
        await _until(lambda: watched.losses == 1)
        assert watched.sock.fileno() == -1

    with caplog.at_level(logging.ERROR):
        runner.run(scenario())
    assert "ZeroDivisionError" in caplog.text


def test_fin_is_told_once(runner: asyncio.Runner, watched: Watched) -> None:
    """Pausing and resuming after the end of file does not report it again."""

    async def scenario() -> None:
        watched.end.attach(watched.sock)
        watched.peer.send(b"last words")
        watched.peer.shutdown(socket.SHUT_WR)
        await _until(lambda: Signal.FIN in watched.items)
        watched.end.pause("test")
        watched.end.resume_all()
        await _turns()
        assert watched.end.write(b"answer")
        assert watched.peer.recv(64) == b"answer"
        watched.end.close()
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    assert watched.items == [b"last words", Signal.FIN]


def test_write_to_a_reset_connection_tells_of_the_reset(runner: asyncio.Runner, watched: Watched) -> None:
    """An end that is paused learns of the broken connection when it writes, after whoever wrote is done."""

    async def scenario() -> None:
        watched.end.pause("test")
        watched.end.attach(watched.sock)
        watched.reset_peer()
        assert not watched.end.write(b"x")
        assert watched.items == []
        await _until(lambda: watched.end.gone)

    runner.run(scenario())
    assert watched.items == [Signal.RST]


def test_a_relay_gets_the_bytes_and_only_them(runner: asyncio.Runner, watched: Watched) -> None:
    """With a relay set, bytes go there and the FIN still goes the ordinary way."""
    relayed = bytearray()

    async def scenario() -> None:
        watched.end.relay = relayed.extend
        watched.end.attach(watched.sock)
        watched.peer.send(b"bytes")
        watched.peer.shutdown(socket.SHUT_WR)
        await _until(lambda: bool(watched.items))
        watched.end.reset()

    runner.run(scenario())
    assert relayed == b"bytes"
    assert watched.items == [Signal.FIN]


def test_a_defect_resets_its_connection(
    runner: asyncio.Runner, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """Code of ours that raises on a chunk costs that connection, both its ends, is logged, and leaves the loop alive."""

    def fail(_: memoryview) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        watched.end.relay = fail
        watched.end.attach(watched.sock)
        watched.peer.send(b"x")
        await _until(lambda: watched.end.gone)

    with caplog.at_level(logging.ERROR):
        runner.run(scenario())
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(ConnectionResetError):
        watched.peer.recv(1)
    assert watched.items == [Signal.RST]  # by which the link ends the other end too
    assert watched.losses == 1


def test_ends_share_their_buffer_and_never_their_bytes(runner: asyncio.Runner) -> None:
    """Two relays whose destinations are slow keep their own bytes while the other reads into the shared buffer."""
    sources, destinations = [Watched(), Watched()], [Watched(), Watched()]

    async def carry(source: Watched, destination: Watched, payload: bytes) -> bytes:
        def relay(data: memoryview) -> None:
            assert destination.end.write(data)

        def finish(_: Item) -> None:
            destination.end.finish()

        source.end.relay = relay
        source.end.receive = finish
        destination.end.throttle = lambda full: source.end.pause("full") if full else source.end.resume("full")
        destination.end.attach(destination.sock)
        source.end.attach(source.sock)
        source.peer.setblocking(False)
        sending = asyncio.get_running_loop().create_task(_send(source.peer, payload))
        await _until(lambda: all(source.end.paused for source in sources))
        received = await destination.read_all()
        await sending
        source.end.reset()
        destination.end.reset()
        return received

    async def scenario() -> list[bytes]:
        return await asyncio.gather(*(carry(*each) for each in zip(sources, destinations, payloads, strict=True)))

    payloads = [os.urandom(8 << 20), os.urandom(8 << 20)]
    assert runner.run(scenario()) == payloads
    for watched in sources + destinations:
        watched.peer.close()
        watched.sock.close()


def _drain(sock: socket.socket) -> None:
    """Read until the end of file or the reset, which is raised."""
    while sock.recv(1 << 20):
        pass


async def _send(sock: socket.socket, payload: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, payload)
    sock.shutdown(socket.SHUT_WR)


async def _turns() -> None:
    """Give the loop so many turns that nothing new is left to be announced."""
    for _ in range(20):
        await asyncio.sleep(0)


async def _until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until the condition holds; fails after ten seconds."""
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0)


async def test_crumbs_are_kept_together(watched: Watched) -> None:
    """Thousands of bytes written one by one to a peer that reads nothing take no more than a few pieces."""
    watched.end.attach(watched.sock)
    written = watched.fill()
    crumbs = bytes(number % 251 for number in range(5000))
    before = len(watched.end._backlog)
    for number in range(len(crumbs)):
        watched.end.write(crumbs[number : number + 1])
    assert len(watched.end._backlog) - before <= 6
    watched.end.close()
    assert await watched.read_all() == written + crumbs
