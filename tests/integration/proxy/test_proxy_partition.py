"""Partition: who got what, seen from a real server and a client that never retries."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chaos.faults.network.client import ProxyProcess

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Client = Callable[..., redis.asyncio.Redis]

GIVE_UP_S = 0.2

pytestmark = pytest.mark.requires("redis")


async def test_discarded_request_never_reached_the_server(
    proxies: ProxyProcess, redis_port: int, redis_client: Client
) -> None:
    """The client times out and the server has executed nothing, also after the heal."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    direct, through = redis_client(redis_port), redis_client(port, GIVE_UP_S)
    await through.ping()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"side": "request", "mode": "discard"})
    with pytest.raises(RedisTimeoutError):
        await through.incr("n")
    assert await direct.get("n") is None
    evidence = await lever.heal("f0")
    assert int(evidence["bytes_discarded"]) >= len("INCR n")
    assert await redis_client(port).incr("n") == 1


async def test_discarded_reply_hides_a_command_that_was_executed(
    proxies: ProxyProcess, redis_port: int, redis_client: Client
) -> None:
    """The client times out although the server has counted: the ambiguous outcome, made on purpose."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    direct, through = redis_client(redis_port), redis_client(port, GIVE_UP_S)
    await through.ping()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"side": "reply", "mode": "discard"})
    with pytest.raises(RedisTimeoutError):
        await through.incr("n")
    assert await direct.get("n") == "1"
    evidence = await lever.heal("f0")
    assert evidence["bytes_discarded"] == len(b":1\r\n")


async def test_stalled_request_is_executed_late(
    proxies: ProxyProcess, redis_port: int, redis_client: Client, eventually: Eventually
) -> None:
    """A write whose client has given up and gone takes effect after the heal."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    direct, through = redis_client(redis_port), redis_client(port, GIVE_UP_S)
    await through.ping()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": "stall"})
    with pytest.raises(RedisTimeoutError):
        await through.set("zombie", "walks")
    await through.aclose()
    assert await direct.get("zombie") is None
    evidence = await lever.heal("f0")
    assert int(evidence["bytes_held"]) >= len("SET zombie walks")

    async def written() -> bool:
        return bool(await direct.get("zombie") == "walks")

    await eventually(written)


@pytest.mark.parametrize("side", ["request", "both"])
async def test_stalled_request_is_executed_late_although_its_client_was_reset(
    proxies: ProxyProcess, redis_port: int, redis_client: Client, dial: Dial, eventually: Eventually, side: str
) -> None:
    """The zombie write: its sender's kernel has even sent RST, and the bytes are delivered all the same."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    direct = redis_client(redis_port)
    reader, writer = await dial(port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": "stall", "side": side, "held": "late"})
    writer.write(b"SET zombie walks\r\n")
    await writer.drain()
    _abort(writer)
    assert await direct.get("zombie") is None
    evidence = await lever.heal("f0")
    assert int(evidence["bytes_held"]) >= len("SET zombie walks")

    async def written() -> bool:
        return bool(await direct.get("zombie") == "walks")

    await eventually(written)

    async def gone() -> bool:
        return (await proxies.state())["redis"].connections == 0

    await eventually(gone)


async def test_stall_that_drops_throws_away_what_it_held_and_resets(
    proxies: ProxyProcess, redis_port: int, redis_client: Client, dial: Dial, eventually: Eventually
) -> None:
    """No write of before the heal takes effect after it; a connection that was silent goes on."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    direct, silent = redis_client(redis_port), redis_client(port)
    reader, writer = await dial(port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    await silent.ping()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": "stall", "held": "drop"})
    writer.write(b"SET ghost walks\r\n")
    await writer.drain()

    evidence = await lever.heal("f0")
    assert evidence == {"bytes_held": len("SET ghost walks") + 2, "connections_reset": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert await silent.ping()
    assert await direct.get("ghost") is None


async def test_stall_delivers_late_to_a_client_that_waits(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Both directions go on where they stopped, whatever the peers sent meanwhile, and the connection lives."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, server_writer = await accepted.get()
    await eventually(lambda: _open(proxies))
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": "stall"})
    writer.write(b"question")
    server_writer.write(b"greeting")
    await asyncio.gather(writer.drain(), server_writer.drain())
    assert (await proxies.state())["redis"].paused_links == 2
    assert (await proxies.state())["redis"].request_bytes == 0
    assert await lever.heal("f0") == {"bytes_held": len(b"question") + len(b"greeting")}
    writer.write(b" mark")
    writer.write_eof()
    assert await server_reader.read() == b"question mark"
    server_writer.close()
    assert await reader.read() == b"greeting"


async def test_stall_keeps_what_a_latency_had_in_hand(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Bytes that one fault lets go of are caught by the next one in the chain, and delivered in order."""
    upstream_port, accepted = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, _ = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.latency", {"delay_s": 60.0})
    writer.write(b"delayed ")

    async def held() -> bool:
        return (await proxies.state())["redis"].buffered_bytes == len(b"delayed ")

    await eventually(held)
    await lever.inject("f1", "network.partition", {"mode": "stall"})
    await lever.heal("f0")
    assert (await proxies.state())["redis"].request_bytes == 0
    writer.write(b"and stalled")
    writer.write_eof()
    await writer.drain()
    assert await lever.heal("f1") == {"bytes_held": len(b"delayed and stalled")}
    assert await server_reader.read() == b"delayed and stalled"


async def test_heal_of_a_discard_resets_connections_that_lost_bytes_and_no_others(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Neither peer ever sees a stream with a hole; a connection that was silent goes on."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    reader, writer = await dial(port)
    server_reader, _ = await accepted.get()
    silent_reader, silent_writer = await dial(port)
    silent_server_reader, silent_server_writer = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {})
    writer.write(b"lost")

    async def swallowed() -> bool:
        return (await proxies.state())["redis"].faults["f0"].get("bytes_discarded") == 4

    await eventually(swallowed)
    assert await lever.heal("f0") == {"bytes_discarded": 4, "connections_reset": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await server_reader.read()
    silent_writer.write(b"ping")
    assert await silent_server_reader.readexactly(4) == b"ping"
    silent_server_writer.write(b"pong")
    assert await silent_reader.readexactly(4) == b"pong"


async def test_discard_hides_the_end_of_a_connection_until_the_heal(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """While cut off, a client cannot see that the server has closed; it is reset by the heal instead."""
    upstream_port, accepted = accepting
    reader, _ = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    _, server_writer = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"side": "reply"})
    server_writer.close()

    async def swallowed() -> bool:
        return (await proxies.state())["redis"].faults["f0"].get("signals_discarded") == 1

    await eventually(swallowed)
    assert not reader.at_eof()
    assert await lever.heal("f0") == {"signals_discarded": 1, "connections_reset": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()


async def test_end_of_file_is_seen_once_whatever_pauses_and_resumes(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A stall that begins and ends after a client's FIN does not make the proxy see that FIN again."""
    upstream_port, _ = accepting
    _, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"side": "request", "mode": "discard"})
    writer.write_eof()

    async def swallowed() -> bool:
        return (await proxies.state())["redis"].faults["f0"].get("signals_discarded", 0) >= 1

    await eventually(swallowed)
    await lever.inject("f1", "network.partition", {"mode": "stall"})
    await lever.heal("f1")
    for _ in range(3):
        assert (await proxies.state())["redis"].faults["f0"] == {"signals_discarded": 1}


@pytest.mark.parametrize("mode", ["discard", "stall"])
async def test_new_connection_under_a_full_partition_carries_nothing(
    proxies: ProxyProcess, redis_port: int, redis_client: Client, mode: str
) -> None:
    """The kernel accepts it, the server never hears of it, and that alone counts as evidence."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    direct = redis_client(redis_port)
    clients_before = (await direct.info("stats"))["total_connections_received"]
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": mode})
    with pytest.raises(RedisTimeoutError):
        await redis_client(port, GIVE_UP_S).set("key", "value")
    assert await direct.get("key") is None  # and meanwhile the client's socket is closed for good
    evidence = await lever.heal("f0")
    assert evidence["connections_stalled"] == 1
    assert await redis_client(port).get("key") is None
    assert (await direct.info("stats"))["total_connections_received"] == clients_before + 1


async def test_waiting_connection_is_let_in_after_a_stall(
    proxies: ProxyProcess, redis_port: int, redis_client: Client, eventually: Eventually
) -> None:
    """A client that connected during a stall and still waits is served after the heal."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": "stall"})
    counting = asyncio.ensure_future(redis_client(port).incr("n"))
    await eventually(lambda: _waiting(proxies))
    await lever.heal("f0")
    assert await counting == 1


async def test_waiting_connection_is_reset_after_a_discard(
    proxies: ProxyProcess, redis_port: int, redis_client: Client, eventually: Eventually
) -> None:
    """A client that connected during a discard and still waits is reset by the heal, at once."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": "discard"})
    counting = asyncio.ensure_future(redis_client(port, 30).incr("n"))
    await eventually(lambda: _waiting(proxies))
    await lever.heal("f0")
    with pytest.raises((RedisConnectionError, ConnectionResetError)):
        await counting
    assert await redis_client(redis_port).get("n") is None


async def test_other_proxy_is_untouched(proxies: ProxyProcess, redis_port: int, redis_client: Client) -> None:
    """Two proxies of one process share nothing: one is partitioned, the other answers."""
    cut_off = redis_client(await proxies.add("redis", "127.0.0.1", redis_port), GIVE_UP_S)
    other = redis_client(await proxies.add("other", "127.0.0.1", redis_port))
    await cut_off.ping()
    await other.ping()
    await proxies.lever("redis").inject("f0", "network.partition", {})
    with pytest.raises(RedisTimeoutError):
        await cut_off.incr("n")
    assert await other.incr("n") == 1
    assert (await proxies.state())["other"].faults == {}


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def _open(proxies: ProxyProcess) -> bool:
    """Tell whether the connection has both its sockets."""
    return (await proxies.state())["redis"].connections == 1


async def _waiting(proxies: ProxyProcess) -> bool:
    """Tell whether a connection waits for the end of a partition."""
    return (await proxies.state())["redis"].faults["f0"].get("connections_stalled") == 1
