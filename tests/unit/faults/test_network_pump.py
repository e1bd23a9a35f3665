"""Waiting for the sockets of proxied connections, on any loop and on the loop that does it itself."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chaos.faults.network.pump import READ, WRITE, new_loop, pump_of

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, new_loop], ids=["any loop", "own loop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    """Return a runner of each kind of loop."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two connected, non-blocking sockets."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def test_events_reach_the_handler(runner: asyncio.Runner, pair: tuple[socket.socket, socket.socket]) -> None:
    """A watched socket is told of what it waits for, of what that was changed to, and of nothing once forgotten."""
    near, far = pair
    told: list[int] = []

    async def scenario() -> None:
        pump = pump_of(asyncio.get_running_loop())

        def serve(events: int) -> None:
            told.append(events)
            if events & READ:
                far.recv(9)

        pump.watch(far.fileno(), READ, serve)
        near.send(b"one")
        await _until(lambda: told == [READ])
        pump.watch(far.fileno(), READ | WRITE, serve)
        await _until(lambda: told[-1] == WRITE, spurious=told)
        pump.forget(far.fileno())
        told.clear()
        near.send(b"two")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not told

    runner.run(scenario())


def test_a_socket_closed_by_the_one_before_is_not_served(runner: asyncio.Runner) -> None:
    """Of two sockets with an event each, the first takes out the other, whose event is in hand already."""
    pairs = [socket.socketpair() for _ in range(2)]
    served: list[int] = []

    async def scenario() -> None:
        pump = pump_of(asyncio.get_running_loop())
        for mine, other in ((0, 1), (1, 0)):

            def serve(_: int, mine: int = mine, other: int = other) -> None:
                served.append(mine)
                pump.forget(pairs[mine][0].fileno())
                pump.forget(pairs[other][0].fileno())

            pairs[mine][1].send(b"x")
            pump.watch(pairs[mine][0].fileno(), READ, serve)
        await _until(lambda: bool(served))
        for _ in range(5):
            await asyncio.sleep(0)

    runner.run(scenario())
    assert len(served) == 1
    for near, far in pairs:
        near.close()
        far.close()


def test_asyncio_works_on_the_own_loop() -> None:
    """Streams, threads that call in and cancelled waiting behave as on any loop."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        writer.close()

    async def scenario() -> bytes:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.set,))
        thread.start()
        async with asyncio.timeout(10):
            await called.wait()
        thread.join()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ping")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(scenario()) == b"ping"


def test_timers_of_the_own_loop_keep_to_a_fraction_of_a_millisecond() -> None:
    """A timer never rings early, and not as late as one that is rounded up to whole milliseconds."""

    async def late_s(delay_s: float) -> float:
        loop = asyncio.get_running_loop()
        rang: asyncio.Future[float] = loop.create_future()
        due_s = loop.time() + delay_s
        loop.call_at(due_s, lambda: rang.set_result(loop.time() - due_s))
        return await rang

    async def scenario() -> list[float]:
        return [await late_s(delay_s) for delay_s in [0.0002, 0.0032, 0.0053] * 10]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        late = runner.run(scenario())
    assert min(late) > -1e-6
    # The best of ten: a busy machine may be late, a rounded timer always is (by 0.7 ms for the last of the three).
    assert min(late[2::3]) < 0.0005


def test_the_own_loop_gives_its_descriptors_back() -> None:
    """Nothing stays open behind a loop that was closed."""

    def descriptors() -> set[str]:
        return {path.name for path in Path("/proc/self/fd").iterdir()}

    before = descriptors()
    for _ in range(3):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.sleep(0))
    assert len(descriptors()) == len(before)


async def _until(condition: Callable[[], bool], spurious: list[int] | None = None) -> None:
    """Give the loop turns until the condition holds; fails after ten seconds."""
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, spurious
        await asyncio.sleep(0)
