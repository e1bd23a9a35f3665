"""Frames over a socket pair."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from chaos._channel import Channel, ChannelClosed, RemoteError, SyncChannel


async def _pair(**handlers: Any) -> tuple[Channel, Channel]:
    ours, theirs = socket.socketpair()
    return await Channel.open(ours), await Channel.open(theirs, **handlers)


async def test_answers_return_to_their_askers() -> None:
    """Concurrent questions get their own answers, whatever order these come in."""
    gates = [asyncio.Event() for _ in range(3)]

    async def handler(op: str, args: dict[str, Any]) -> Any:
        await gates[args["n"]].wait()
        return [op, args["n"]]

    ours, theirs = await _pair(handler=handler)
    asked = [asyncio.ensure_future(ours.call("echo", {"n": n})) for n in range(3)]
    for gate in reversed(gates):
        gate.set()
        await asyncio.sleep(0)
    assert await asyncio.gather(*asked) == [["echo", 0], ["echo", 1], ["echo", 2]]
    ours.close()
    await theirs.wait_closed()


async def test_an_error_travels_with_its_name() -> None:
    """What the handler raises reaches the asker by class name and text."""

    async def handler(op: str, args: dict[str, Any]) -> Any:
        raise LookupError(f"no {op}")

    ours, theirs = await _pair(handler=handler)
    with pytest.raises(RemoteError, match="LookupError: no thing") as caught:
        await ours.call("thing")
    assert caught.value.kind == "LookupError"
    ours.close()
    theirs.close()


async def test_the_other_end_closing_fails_waiting_calls() -> None:
    """A process that goes away ends every wait for it, and later calls at once."""
    ours, theirs = await _pair(handler=lambda op, args: asyncio.Event().wait())
    asked = asyncio.ensure_future(ours.call("never"))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(ChannelClosed):
        await asked
    assert ours.closed
    with pytest.raises(ChannelClosed):
        await ours.call("again")


async def test_a_late_answer_is_dropped() -> None:
    """A call that timed out leaves the channel usable."""
    gate = asyncio.Event()

    async def handler(op: str, args: dict[str, Any]) -> Any:
        if op == "slow":
            await gate.wait()
        return op

    ours, theirs = await _pair(handler=handler)
    with pytest.raises(TimeoutError):
        await ours.call("slow", timeout_s=0.01)
    gate.set()
    assert await ours.call("fast", timeout_s=5) == "fast"
    ours.close()
    theirs.close()


async def test_told_messages_keep_their_order_and_large_frames_pass() -> None:
    """Messages that want no answer arrive in order, one of 5 MB among them."""
    got: list[tuple[str, int]] = []
    done = asyncio.Event()

    def listener(op: str, args: dict[str, Any]) -> None:
        got.append((op, len(args["text"])))
        if op == "last":
            done.set()

    ours, theirs = await _pair(listener=listener)
    ours.tell("first", {"text": "x"})
    ours.tell("big", {"text": "x" * 5_000_000})
    ours.tell("last", {"text": ""})
    await asyncio.wait_for(done.wait(), 20)
    assert got == [("first", 1), ("big", 5_000_000), ("last", 0)]
    ours.close()
    theirs.close()


async def test_the_blocking_end_speaks_the_same() -> None:
    """The synchronous end receives and answers, and sees the end of file as None."""
    ours, theirs = socket.socketpair()
    channel = await Channel.open(ours)
    blocking = SyncChannel(theirs)

    def serve() -> dict[str, Any] | None:
        message = blocking.receive()
        assert message is not None
        blocking.send({"id": message["id"], "ok": message["args"]})
        return blocking.receive()

    served = asyncio.ensure_future(asyncio.to_thread(serve))
    assert await channel.call("echo", {"a": [1, "ä"]}, timeout_s=5) == {"a": [1, "ä"]}
    channel.close()
    assert await served is None
    theirs.close()
