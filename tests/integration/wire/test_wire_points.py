"""Every action at every point where it makes sense, in both protocols, against a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from wire_bench import Bench, Line, eventually

from chaos.faults import Cut, Delay, Drop, Duplicate, Forge, Hold, Seen
from chaos.faults.network.resp.actions import POINTS

pytestmark = pytest.mark.requires("redis")

PROTOCOLS = (2, 3)
BYTES = {"request_byte": 9, "reply_byte": 2}


def point(at: str) -> dict[str, Any]:
    """Return the arguments that say where."""
    return {"at": at, "byte": BYTES.get(at)}


async def count(bench: Bench) -> int:
    """Return how often INCR n was executed, as the server itself says."""
    return int(await bench.server_says("GET", "n") or 0)


async def executed(bench: Bench, times: int) -> None:
    """Wait until INCR n was executed so often."""

    async def reached() -> bool:
        return await count(bench) == times

    await eventually(reached)


async def told(line: Line) -> str:
    """Return what a client that waits for a reply is told."""
    try:
        return repr(await line.reply())
    except EOFError:
        return "end of file"
    except ConnectionResetError:
        return "reset"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize(("how", "seen"), [("rst", "reset"), ("fin", "end of file"), ("half_close", "end of file")])
async def test_cuts_that_the_client_sees(bench: Bench, protocol: int, at: str, how: str, seen: str) -> None:
    """Whether the command runs depends on the point alone; the client learns nothing but the cut."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("INCR", Cut(how), **point(at))
    line.send("INCR", "n")
    assert await told(line) == seen
    runs = at in ("after_request", "before_reply", "reply_byte") or how == "half_close"
    await executed(bench, int(runs))
    assert await (await bench.dial()).ask("INCR", "n") == int(runs) + 1
    evidence = await bench.heal(fault)
    assert evidence["frames_hit"] == evidence["connections_cut"] == 1
    assert line.received.endswith(b":1" if at == "reply_byte" else b"")
    assert [(one["how"], one["fault"]) for one in bench.lines("cut")] == [(how, fault)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("how", ["stall", "discard"])
async def test_cuts_that_the_client_does_not_see(bench: Bench, protocol: int, at: str, how: str) -> None:
    """The connection looks open and carries nothing; the heal resets it."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("INCR", Cut(how), **point(at))
    line.send("INCR", "n")
    await bench.until(fault, connections_cut=1)
    runs = at in ("after_request", "before_reply", "reply_byte")
    await executed(bench, int(runs))
    witness = await bench.dial()
    assert await witness.ask("INCR", "n") == int(runs) + 1
    waiting = asyncio.ensure_future(told(line))
    line.send("INCR", "n")
    assert await witness.ask("PING") == b"PONG"
    assert not waiting.done()
    assert (await bench.heal(fault))["connections_reset"] == 1
    assert await waiting == "reset"
    assert await count(bench) == int(runs) + 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("at", "runs"), [("before_request", 0), ("before_reply", 1)])
async def test_drop_swallows_one_frame(bench: Bench, protocol: int, at: str, runs: int) -> None:
    """The client gets no answer to it, and the right answers to everything behind it."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("INCR", Drop(), at=at)
    line.send("INCR", "n")
    assert await line.ask("ECHO", "next") == b"next"
    assert await line.ask("INCR", "n") == runs + 1
    assert await bench.heal(fault) == {"frames_matched": 2, "frames_hit": 1, "frames_dropped": 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("at", ["before_request", "request_byte", "before_reply", "reply_byte"])
async def test_delay_keeps_the_order(bench: Bench, protocol: int, at: str) -> None:
    """The command and what comes behind it are late, and all of it arrives."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("INCR", Delay("60ms"), **point(at))
    started = asyncio.get_running_loop().time()
    line.send("INCR", "n")
    line.send("ECHO", "behind")
    assert await line.reply() == 1
    assert asyncio.get_running_loop().time() - started >= 0.06
    assert await line.reply() == b"behind"
    assert (await bench.heal(fault))["frames_delayed"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_duplicate_runs_twice_and_answers_once(bench: Bench, protocol: int) -> None:
    """The first reply goes to the client, the second to nobody."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("INCR", Duplicate())
    line.send("INCR", "n")
    line.send("ECHO", "behind")
    assert await line.reply() == 1
    assert await line.reply() == b"behind"
    assert await count(bench) == 2
    assert (await bench.heal(fault))["frames_duplicated"] == 1
    assert len(bench.lines("swallowed")) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("at", "runs"), [("before_request", 0), ("before_reply", 1)])
@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("-OOM", "ReplyError(\"OOM command not allowed when used memory > 'maxmemory'.\")"),
        ("-READONLY", 'ReplyError("READONLY You can\'t write against a read only replica.")'),
        ("-LOADING", "ReplyError('LOADING Redis is loading the dataset in memory')"),
        ("-ERR made up", "ReplyError('ERR made up')"),
        ("+OK", "b'OK'"),
        (":41", "41"),
        ("nil", "None"),
    ],
)
async def test_forged_replies(bench: Bench, protocol: int, at: str, runs: int, reply: str, shown: str) -> None:
    """The client is told a lie, in its turn, whether the command ran or not."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("INCR", Forge(reply), at=at)
    line.send("ECHO", "before")
    line.send("INCR", "n")
    line.send("ECHO", "behind")
    assert await line.reply() == b"before"
    assert repr(await line.reply()) == shown
    assert await line.reply() == b"behind"
    assert await count(bench) == runs
    assert (await bench.heal(fault))["frames_forged"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("at", "runs"), [("before_request", 0), ("before_reply", 1)])
@pytest.mark.parametrize(("reply", "kind"), [("nil", "None"), ("-EXECABORT", "ReplyError")])
async def test_forged_exec_leaves_no_open_transaction(
    bench: Bench, protocol: int, at: str, runs: int, reply: str, kind: str
) -> None:
    """An EXEC that never ran leaves the connection outside MULTI, as a real conflict or abort would."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("EXEC", Forge(reply), at=at)
    for words in (("WATCH", "n"), ("MULTI",), ("INCR", "n")):
        await line.ask(*words)
    assert kind in repr(await line.ask("EXEC"))
    assert await line.ask("INCR", "m") == 1
    assert await count(bench) == runs
    assert (await bench.heal(fault))["frames_forged"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("at", ["before_request", "request_byte", "before_reply", "reply_byte"])
async def test_hold_until_the_heal(bench: Bench, protocol: int, at: str) -> None:
    """Nothing passes before the heal, everything after it, and the server is not asked before its time."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("INCR", Hold(), **point(at))
    line.send("INCR", "n")
    line.send("ECHO", "behind")
    await bench.until(fault, frames_held=1)
    assert await count(bench) == int(at in ("before_reply", "reply_byte"))
    assert await bench.heal(fault) == {"frames_matched": 1, "frames_hit": 1, "frames_held": 1}
    assert await line.reply() == 1
    assert await line.reply() == b"behind"


@pytest.mark.parametrize("at", ["request", "reply"])
async def test_hold_until_a_frame_elsewhere(bench: Bench, at: str) -> None:
    """The event on another connection lets the held command go; a wrong one does not."""
    line, other = await bench.dial(), await bench.dial()
    fault = await bench.arm("INCR", Hold(until=Seen("SET", key="go:*", nth=2, at=at)))
    line.send("INCR", "n")
    await bench.until(fault, frames_held=1)
    for key in ("stop:1", "go:1"):
        assert await other.ask("SET", key, "x") == b"OK"
    assert await count(bench) == 0
    assert await other.ask("SET", "go:2", "x") == b"OK"
    assert await line.reply() == 1
    assert (await bench.heal(fault))["frames_released"] == 1


async def test_a_held_write_outlives_its_sender(bench: Bench) -> None:
    """The zombie: its client has reset the connection, and the write takes effect after the heal."""
    line = await bench.dial()
    fault = await bench.arm("INCR", Hold())
    line.send("INCR", "n")
    await bench.until(fault, frames_held=1)
    line.writer.transport.abort()
    assert await (await bench.dial()).ask("INCRBY", "n", "10") == 10
    await bench.heal(fault)
    await executed(bench, 11)


async def test_a_byte_that_is_not_there_is_no_hit(bench: Bench) -> None:
    """A point beyond the frame leaves the frame alone, and says so."""
    line = await bench.dial()
    fault = await bench.arm("INCR", Cut(), at="reply_byte", byte=4)
    assert await line.ask("INCR", "n") == 1
    assert await bench.heal(fault) == {"frames_matched": 1, "frames_too_short": 1}


async def test_bytes_count_from_the_end_when_negative(bench: Bench) -> None:
    """-1 lets everything but the last byte pass."""
    line = await bench.dial()
    await bench.arm("INCR", Cut("fin"), at="reply_byte", byte=-1)
    line.send("INCR", "n")
    assert await line.end() == b":1\r"


async def test_after_request_runs_the_command_every_time(bench: Bench) -> None:
    """A reset right behind a request does not overtake it."""
    await bench.arm("INCR", Cut("rst"), at="after_request", times=None)
    for number in range(1, 101):
        line = await bench.dial()
        line.send("INCR", "n")
        assert await told(line) == "reset"
        await executed(bench, number)
