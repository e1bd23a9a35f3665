"""What real connections are made of: pipelines, transactions, scripts, subscriptions, large and broken frames."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from wire_bench import Bench, Line, Near, packed

from chaos.faults import Cut, Delay, Drop, Forge, Hold, OnCommand
from chaos.faults.network import connection
from chaos.faults.network.journal import Journal
from chaos.faults.network.resp.framer import PART_BYTES_MAX, Frame
from chaos.faults.network.resp.rule import OnCommandToxic
from chaos.faults.network.resp.session import Exchange, Session

pytestmark = pytest.mark.requires("redis")

SCRIPT = "redis.call('INCR', KEYS[1]) return redis.call('INCRBY', KEYS[2], ARGV[1])"


@pytest.mark.parametrize("protocol", [2, 3])
async def test_one_command_of_a_pipeline(bench: Bench, protocol: int) -> None:
    """The rule hits the third of twenty commands that arrive together; all others are answered in order."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("SET", Forge("-OOM"), nth=3)
    line.writer.write(b"".join(packed("SET", f"key:{n}", str(n)) + packed("GET", f"key:{n}") for n in range(20)))
    answers = [await line.reply() for _ in range(40)]
    assert "OOM" in str(answers.pop(4))
    assert answers.pop(4) is None
    assert answers == [value for n in range(20) if n != 2 for value in (b"OK", str(n).encode())]
    assert await bench.heal(fault) == {"frames_matched": 20, "frames_hit": 1, "frames_forged": 1}


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_reply_of_exec_is_lost(bench: Bench, protocol: int) -> None:
    """Exactly the commit point: the transaction is in the server, and its client knows nothing."""
    line = await bench.dial(protocol=protocol)
    fault = await bench.arm("EXEC", Cut("rst"), at="before_reply")
    line.writer.write(packed("MULTI") + packed("INCR", "n") + packed("RPUSH", "l", "x") + packed("EXEC"))
    assert [await line.reply() for _ in range(3)] == [b"OK", b"QUEUED", b"QUEUED"]
    with pytest.raises(ConnectionResetError):
        await line.reply()
    assert await bench.server_says("GET", "n") == b"1"
    assert await bench.server_says("LLEN", "l") == 1
    assert (await bench.heal(fault))["frames_hit"] == 1


async def test_a_command_inside_multi(bench: Bench) -> None:
    """A queued command that is lost is missing from the transaction, and EXEC answers for the rest."""
    line = await bench.dial()
    await bench.arm("INCR", Drop(), key="n")
    line.writer.write(packed("MULTI") + packed("INCR", "n") + packed("INCR", "m") + packed("EXEC"))
    assert [await line.reply() for _ in range(3)] == [b"OK", b"QUEUED", [1]]


async def test_scripts_by_name_pattern_and_key(bench: Bench) -> None:
    """EVAL and EVALSHA are met by a glob, and their keys are the declared ones."""
    line = await bench.dial()
    fault = await bench.arm("EVAL*", Drop(), key="second:*", at="before_reply", nth=2)
    digest = hashlib.sha1(SCRIPT.encode()).hexdigest()
    assert await line.ask("EVAL", SCRIPT, "2", "first", "second:1", "10") == 10
    assert await line.ask("EVALSHA", digest, "2", "first", "other", "10") == 10
    line.send("EVALSHA", digest, "2", "first", "second:1", "10")
    assert await line.ask("GET", "second:1") == b"20"
    assert (await bench.heal(fault))["frames_matched"] == 2
    assert [one["key"] for one in bench.lines("rule")] == ["first"]


@pytest.mark.parametrize("name", [("CLIENT", "SETNAME", "victim"), ("HELLO", "3", "SETNAME", "victim")])
async def test_only_a_named_client(bench: Bench, name: tuple[str, ...]) -> None:
    """Others who send the same command are left alone and not counted."""
    victim, other = await bench.dial(), await bench.dial()
    await victim.ask(*name)
    fault = await bench.arm("INCR", Forge("-OOM"), client="victim")
    assert await other.ask("INCR", "n") == 1
    assert "OOM" in str(await victim.ask("INCR", "n"))
    assert (await bench.heal(fault))["frames_matched"] == 1


async def test_subcommands(bench: Bench) -> None:
    """A command with a space in its name means its subcommand."""
    line = await bench.dial()
    await bench.arm("CLIENT SETNAME", Forge("-ERR no names today"))
    assert await line.ask("CLIENT", "ID") > 0
    assert "no names" in str(await line.ask("CLIENT", "SETNAME", "me"))


async def test_occurrences_count_over_all_connections(bench: Bench) -> None:
    """Occurrences count for the whole proxy, whoever sends them; the count begins when the rule is armed."""
    lines = [await bench.dial() for _ in range(3)]
    assert await lines[0].ask("INCR", "n") == 1
    fault = await bench.arm("INCR", Forge("-OOM"), nth=2, times=2)
    answers = [await line.ask("INCR", "n") for line in lines for _ in range(2)]
    assert [isinstance(answer, int) for answer in answers] == [True, False, False, True, True, True]
    assert await bench.heal(fault) == {"frames_matched": 6, "frames_hit": 2, "frames_forged": 2}


async def test_two_rules_on_one_frame(bench: Bench) -> None:
    """At the request the rule that was armed first acts; a rule at the reply acts besides."""
    line = await bench.dial()
    first = await bench.arm("INCR", Forge(":7"))
    second = await bench.arm("INCR", Forge(":8"), times=None)
    third = await bench.arm("INCR", Forge(":9"), at="before_reply", nth=3)
    assert [await line.ask("INCR", "n") for _ in range(2)] == [7, 8]
    await bench.heal(second)
    assert await line.ask("INCR", "n") == 9
    assert [(await bench.heal(fault))["frames_hit"] for fault in (first, third)] == [1, 1]
    assert await bench.server_says("GET", "n") == b"1"


@pytest.mark.parametrize("protocol", [2, 3])
async def test_published_messages_pass_and_are_no_replies(bench: Bench, protocol: int) -> None:
    """A subscriber's messages come between its commands' replies, and the rule hits the right one of these."""
    subscriber = await bench.dial(protocol=protocol)
    subscriber.send("SUBSCRIBE", "news", "weather")
    assert [(await subscriber.reply())[1] for _ in range(2)] == [b"news", b"weather"]
    fault = await bench.arm("PING", Forge("+forged"), at="before_reply", nth=2)
    assert await bench.server_says("PUBLISH", "news", "one") == 1
    assert (await subscriber.reply())[2] == b"one"
    first = await subscriber.ask("PING")
    assert first == ([b"pong", b""] if protocol == 2 else b"PONG")
    assert await bench.server_says("PUBLISH", "weather", "two") == 1
    subscriber.send("PING")
    assert (await subscriber.reply())[2] == b"two"
    assert await subscriber.reply() == b"forged"
    subscriber.send("UNSUBSCRIBE")
    assert {(await subscriber.reply())[1] for _ in range(2)} == {b"news", b"weather"}
    assert await subscriber.ask("ECHO", "order") == b"order"
    assert (await bench.heal(fault))["frames_hit"] == 1
    assert len(bench.lines("push")) == 6


async def test_a_resp3_subscriber_reads_a_list_that_looks_like_a_message(bench: Bench) -> None:
    """It is the reply it is, and the rule hits the reply of the command behind it."""
    line = await bench.dial(protocol=3)
    await bench.server_says("RPUSH", "l", "message", "x")
    line.send("SUBSCRIBE", "news")
    assert (await line.reply())[1] == b"news"
    fault = await bench.arm("GET", Forge("+forged"), at="before_reply")
    line.send("LRANGE", "l", "0", "-1")
    line.send("GET", "l2")
    assert [await line.reply() for _ in range(2)] == [[b"message", b"x"], b"forged"]
    assert (await bench.heal(fault))["frames_hit"] == 1
    assert [one["frame"] for one in bench.lines("reply")] == [0, 2, 3]


async def test_silenced_replies(bench: Bench) -> None:
    """Commands without a reply are no occurrences for a rule at the reply."""
    line = await bench.dial()
    fault = await bench.arm("INCR", Forge(":99"), at="before_reply", nth=2)
    line.writer.write(
        packed("CLIENT", "REPLY", "SKIP")
        + packed("INCR", "n")
        + packed("INCR", "n")
        + packed("CLIENT", "REPLY", "OFF")
        + packed("INCR", "n")
        + packed("CLIENT", "REPLY", "ON")
        + packed("INCR", "n")
    )
    assert [await line.reply() for _ in range(3)] == [2, b"OK", 99]
    assert (await bench.heal(fault))["frames_matched"] == 2


async def test_inline_commands(bench: Bench) -> None:
    """What a person types is a command too."""
    line = await bench.dial()
    fault = await bench.arm("incr", Forge(":5"), key="n")
    line.writer.write(b"PING\r\nINCR n\r\n\r\nINCR n\r\n")
    assert [await line.reply() for _ in range(3)] == [b"PONG", 5, 1]
    assert (await bench.heal(fault))["frames_matched"] == 2


def one_byte(data: bytes) -> list[bytes]:
    """Cut everything into single bytes."""
    return [data[n : n + 1] for n in range(len(data))]


def anywhere(data: bytes) -> list[bytes]:
    """Cut at forty places that a seed chose."""
    places = sorted({0, len(data), *Random(7).sample(range(len(data)), 40)})
    return [data[start:end] for start, end in pairwise(places)]


@pytest.mark.parametrize("cut", [one_byte, anywhere])
async def test_frames_cut_anywhere_arrive_untouched(bench: Bench, cut: Callable[[bytes], list[bytes]]) -> None:
    """Requests that trickle in are the same requests, and the rule still finds its own."""
    line = await bench.dial()
    fault = await bench.arm("GET", Forge("nil"), nth=2)
    value = bytes(range(256))
    for part in cut(packed("SET", "k", value) + packed("GET", "k") + packed("GET", "k") + packed("STRLEN", "k")):
        line.writer.write(part)
        await line.writer.drain()
    assert [await line.reply() for _ in range(4)] == [b"OK", value, None, 256]
    assert (await bench.heal(fault))["frames_hit"] == 1


async def test_large_values_arrive_untouched(bench: Bench) -> None:
    """Frames above and below the limit for keeping whole ones come through, and a rule says what it could not do."""
    line = await bench.dial()
    fault = await bench.arm("SET", Forge("-OOM"), times=None, nth=2)
    for size in (512 * 1024, PART_BYTES_MAX + 4 * 1024 * 1024):
        value = os.urandom(size)
        assert await line.ask("SET", "k", value) == b"OK"
        assert hashlib.sha256(await line.ask("GET", "k")).digest() == hashlib.sha256(value).digest()
    assert "OOM" in str(await line.ask("SET", "k", "x"))
    assert await bench.heal(fault) == {"frames_matched": 3, "frames_hit": 1, "frames_forged": 1, "frames_oversize": 1}
    assert [one["key"] for one in bench.lines("request")] == ["k"] * 5


async def test_one_transaction_among_others(bench: Bench) -> None:
    """The EXEC behind a token is hit, those of other transactions and a token with a longer name are not."""
    line = await bench.dial()
    fault = await bench.arm("EXEC", Forge("-EXECABORT"), transaction="c1.2")
    answers = []
    for token in ("c1.1", "c1.22", "c1.2", "c1.3"):
        stream = packed("MULTI") + packed("RPUSH", "l", f"{token} text") + packed("EXEC")
        line.writer.write(stream)
        answers.append([await line.reply() for _ in range(3)][2])
    assert [isinstance(answer, list) for answer in answers] == [True, True, False, True]
    assert await bench.server_says("LLEN", "l") == 3
    assert (await bench.heal(fault))["frames_matched"] == 1


async def test_a_connection_joined_in_the_middle(bare: Bench) -> None:
    """Nothing is guessed: the rule acts once an exchange was seen whole, and says what passed unread until then."""
    line = await bare.dial()
    assert await line.ask("INCR", "n") == 1
    fault = await bare.arm("INCR", Forge(":-1"), times=None)
    assert await line.ask("INCR", "n") == 2
    assert await line.ask("INCR", "n") == -1
    evidence = await bare.heal(fault)
    assert evidence["bytes_unread"] == len(packed("INCR", "n")) + len(b":2\r\n")
    assert evidence["frames_matched"] == 1
    assert await line.ask("INCR", "n") == 3


async def test_a_connection_joined_while_a_reply_is_due(bare: Bench) -> None:
    """A reply to a request that nobody has read is not taken for that of the next one."""
    line, other = await bare.dial(), await bare.dial()
    line.send("BLPOP", "queue", "0")
    assert await other.ask("PING") == b"PONG"

    while b"cmd=blpop" not in await bare.server_says("CLIENT", "LIST"):
        pass
    fault = await bare.arm("INCR", Forge(":-1"), times=None)
    line.send("INCR", "n")
    assert await other.ask("RPUSH", "queue", "x") == 1
    assert await line.reply() == [b"queue", b"x"]
    assert await line.reply() == 1
    answers = [await line.ask("INCR", "n") for _ in range(3)]
    assert -1 in answers
    assert answers == sorted(answers, reverse=True)
    assert (await bare.heal(fault))["frames_hit"] == answers.count(-1)


async def test_a_stream_that_is_no_redis(bare: Bench) -> None:
    """It is passed on untouched, both ways, and the rule says that it could not read it."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\r\n\xff\xfe"
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readexactly(len(hello)))
        writer.write(b"\x15" + hello)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = await bare.proxies.add("other", "127.0.0.1", server.sockets[0].getsockname()[1])
    await bare.proxies.journal("other", bare.wire, frames=True)
    fault = OnCommand("other", "*", do=Cut())
    lever = bare.proxies.lever("other")
    await lever.inject("f0", fault.kind, fault.toxic_arguments(Random(0)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(hello)
    assert await reader.read() == b"\x15" + hello
    writer.close()
    server.close()
    assert seen == [hello]
    evidence = await lever.heal("f0")
    assert not fault.landed(evidence)
    assert evidence["connections_unread"] == 1
    assert len(bare.lines("unread")) == 1


async def test_a_number_that_is_none_is_for_the_server_to_refuse(bench: Bench) -> None:
    """More digits than Python reads in a number of keys pass untouched; the connection goes on and is read."""
    line = await bench.dial()
    fault = await bench.arm("INCR", Forge(":7"))
    assert "integer" in str(await line.ask("EVAL", "return 1", "9" * 5000))
    assert await line.ask("INCR", "n") == 7
    assert (await bench.heal(fault))["frames_hit"] == 1
    assert bench.lines("unread") == []


@pytest.mark.parametrize("late", [False, True])
async def test_a_defect_of_the_reader_changes_no_byte(near: Near, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that we fail to read passes untouched, as do those behind it; it is told, and without a value."""

    def fails(_: Session, frame: Frame) -> Exchange | None:
        raise ValueError(f"invalid: {frame.raw!r}")

    rule = OnCommandToxic(command="INCR", do=Drop().arguments(), times=None)
    near.proxy.keep_journal(Journal(str(near.wire), frames=False, start_ns=0))
    line = await near.dial()
    if late:
        assert await line.ask("SET", "n", "0") == b"OK"
    await near.proxy.inject("f0", rule)
    monkeypatch.setattr(Session, "request", fails)
    assert [await line.ask("INCR", "n") for _ in range(3)] == [1, 2, 3]
    evidence = await near.proxy.heal("f0")
    assert evidence.get("connections_unread", 0) == int(not late)
    assert "frames_hit" not in evidence
    assert ["ValueError in fails" in one["reason"] for one in near.lines("unread")] == [True] * (not late)
    assert "invalid" not in near.wire.read_text()


async def test_monitor_is_passed_on(bench: Bench) -> None:
    """A server that sends at will is no longer read, and the client gets all of it."""
    line = await bench.dial()
    await bench.arm("PING", Drop())
    assert await line.ask("MONITOR") == b"OK"
    await bench.server_says("SET", "k", "v")
    assert b'"SET" "k" "v"' in await line.reply()


async def test_nothing_is_read_when_nothing_is_armed(bare: Bench) -> None:
    """Before the first rule and after the last, frames are nobody's business: the journal has none."""
    await bare.proxies.journal("redis", bare.wire, frames=False)
    line = await bare.dial()
    assert await line.ask("INCR", "n") == 1
    fault = await bare.arm("INCR", Hold(), nth=5)
    assert await line.ask("INCR", "n") == 2
    assert await bare.heal(fault) == {"bytes_unread": len(packed("INCR", "n")) + len(b":2\r\n")}
    assert await line.ask("INCR", "n") == 3
    line.writer.close()
    kinds = [one["kind"] for one in bare.lines()]
    assert kinds[:4] == ["journal", "open", "fault_injected", "fault_healed"]


@pytest.mark.parametrize("how", ["stall", "discard", "half_close"])
async def test_what_was_cut_before_a_rule_is_not_kept(near: Near, how: connection.Cut) -> None:
    """Connections that were cut silently and end while a rule is armed leave nothing behind in the reader of frames."""
    for _ in range(5):
        line = await near.dial()
        assert await line.ask("PING") == b"PONG"
        assert near.proxy.cut_all(how) == 1
        await near.proxy.inject("f0", OnCommandToxic(command="GET", do=Drop().arguments()))
        assert near.proxy.tap.read_connections == int(how == "half_close")
        await near.proxy.heal("f0")
        assert near.proxy.cut_all("rst") == 1
        with pytest.raises((ConnectionResetError, EOFError)):
            await line.reply()
    assert near.proxy.tap.read_connections == 0


class CarelessClient:
    """The planted failure: it gives a connection back to its pool although it has stopped to wait for a reply."""

    def __init__(self, line: Line) -> None:
        """Keep one connection."""
        self._line = line

    async def ask(self, *words: str, patience_s: float) -> Any:
        """Send a command; None when no reply came in time."""
        self._line.send(*words)
        try:
            async with asyncio.timeout(patience_s):
                return await self._line.reply()
        except TimeoutError:
            return None


async def test_a_planted_pool_poisoning_shows(bench: Bench) -> None:
    """A reply held past the client's patience is taken for the answer to its next question."""
    client = CarelessClient(await bench.dial())
    await bench.server_says("MSET", "mine", "secret", "yours", "public")
    fault = await bench.arm("GET", Hold(), key="mine", at="before_reply")
    assert await client.ask("GET", "mine", patience_s=0.05) is None
    assert (await bench.evidence(fault))["frames_held"] == 1
    await bench.heal(fault)
    assert await client.ask("GET", "yours", patience_s=10) == b"secret"


async def test_the_journal_tells_no_values(bench: Bench) -> None:
    """Commands, keys, sizes, hashes and tokens are in it; what was stored, and passwords, are not."""
    line = await bench.dial()
    await line.ask("SET", "account", "topsecret")
    await line.ask("RPUSH", "marks", "c3.14 topsecret")
    await line.ask("AUTH", "somebody", "topsecret")
    await line.ask("topsecret or not")
    await line.ask("SET", "account", "topsecret")
    line.writer.close()
    requests = bench.lines("request")
    assert [one["command"] for one in requests] == ["SET", "RPUSH", "AUTH", "?", "SET"]
    assert [one.get("key") for one in requests] == ["account", "marks", None, None, "account"]
    assert requests[1]["token"] == "c3.14"
    assert requests[0]["hash"] == requests[4]["hash"]
    assert "hash" not in requests[2]
    assert [one["frame"] for one in bench.lines("reply")] == [0, 1, 2, 3, 4]
    text = bench.wire.read_text()
    assert "topsecret" not in text
    assert "somebody" not in text


async def test_half_a_frame_at_the_heal_goes_on(bare: Bench) -> None:
    """A request of which the beginning has arrived is passed on when nobody reads frames any more."""
    line = await bare.dial()
    fault = await bare.arm("GET", Drop(), nth=9)
    whole = packed("INCR", "n")
    line.writer.write(packed("PING") + whole[:11])
    assert await line.reply() == b"PONG"
    await bare.heal(fault)
    line.writer.write(whole[11:])
    assert await line.reply() == 1
    assert await line.ask("INCR", "n") == 2


async def test_other_faults_act_beside_a_rule(bench: Bench) -> None:
    """Replies in slices and late ones are framed all the same, and both faults have their evidence."""
    line = await bench.dial()
    rule = await bench.arm("GET", Forge("nil"), nth=3)
    await bench.lever.inject("late", "network.latency", {"delay_s": 0.01, "side": "both"})
    value = os.urandom(20_000)
    assert await line.ask("SET", "k", value) == b"OK"
    for _ in range(3):
        line.send("GET", "k")
    assert [await line.reply() for _ in range(3)] == [value, value, None]
    assert (await bench.heal(rule))["frames_hit"] == 1
    assert await bench.lever.heal("late")
    assert await line.ask("GET", "k") == value


@pytest.mark.parametrize(("action", "arrives"), [(Delay("60s"), True), (Hold(), False)])
async def test_an_orderly_end_sends_what_is_late_and_not_what_is_held(
    bench: Bench, action: Delay | Hold, arrives: bool
) -> None:
    """All connections are closed in order: a delayed reply goes out first, one that waits for an event is lost."""
    line = await bench.dial()
    fault = await bench.arm("INCR", action, at="before_reply")
    line.send("INCR", "n")
    await bench.until(fault, frames_hit=1)
    assert (await bench.lever.inject("end", "network.disconnect", {"how": "fin"}))["connections_cut"] == 1
    assert await line.end() == (b":1\r\n" if arrives else b"")


@pytest.mark.parametrize("seed", range(4))
async def test_what_no_rule_touches_is_the_same_as_without_a_proxy(bench: Bench, seed: int) -> None:
    """Random pipelines through an armed proxy, cut at random, get the very bytes that the server gives directly."""
    rng = Random(seed)
    await bench.arm("SINTERCARD", Drop(), times=None)
    commands = [
        rng.choice(
            [
                packed("SET", f"k{rng.randrange(5)}", rng.randbytes(rng.choice((0, 3, 70, 5000)))),
                packed("GET", f"k{rng.randrange(5)}"),
                packed("RPUSH", f"l{rng.randrange(3)}", rng.randbytes(9)),
                packed("LRANGE", f"l{rng.randrange(3)}", "0", "-1"),
                packed("MULTI") + packed("INCR", "n") + packed("GET", "k0") + packed("EXEC"),
                packed("NOSUCHCOMMAND"),
                packed("EVAL", "return {1, {2, 'x'}, redis.status_reply('fine')}", "0"),
                b"PING\r\n",
            ]
        )
        for _ in range(300)
    ]
    stream = packed("FLUSHALL") + b"".join(commands) + packed("ECHO", "the end")
    expected = await _answers(await bench.dial(direct=True), [stream])
    cuts = sorted({0, len(stream), *(rng.randrange(len(stream)) for _ in range(60))})
    parts = [stream[start:end] for start, end in pairwise(cuts)]
    assert await _answers(await bench.dial(), parts) == expected
    assert len(bench.lines("request")) == len(bench.lines("reply"))


async def _answers(line: Line, parts: list[bytes]) -> bytes:
    """Send a stream in parts and return all bytes up to the answer to its last command."""
    for part in parts:
        line.writer.write(part)
        await line.writer.drain()
    received = b""
    async with asyncio.timeout(20):
        while not received.endswith(b"$7\r\nthe end\r\n"):
            received += await line.reader.read(65536)
    return received
