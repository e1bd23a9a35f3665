"""Connections cut at once (disconnect) and a port where nobody listens (refuse)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

import chaos.faults.network.connection
from chaos.errors import HealFailed
from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxics.disconnect import DisconnectToxic
from chaos.faults.network.toxics.partition import PartitionToxic

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
Client = Callable[..., redis.asyncio.Redis]


async def test_rst_cuts_idle_connections_on_both_sides(proxies: ProxyProcess, accepting: Accepting, dial: Dial) -> None:
    """Clients and server read ECONNRESET on connections where nothing was going on; new ones work."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    pairs = [(await dial(port), await accepted.get()) for _ in range(3)]
    lever = proxies.lever("redis")
    assert await lever.inject("f0", "network.disconnect", {"how": "rst"}) == {"connections_cut": 3}
    for (reader, _), (server_reader, _) in pairs:
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await server_reader.read()
    _, writer = await dial(port)
    writer.write(b"ping")
    server_reader, _ = await accepted.get()
    assert await server_reader.readexactly(4) == b"ping"
    assert await lever.heal("f0") == {"connections_cut": 3}
    assert await lever.heal("f0") == {}


async def test_fin_closes_both_sides_after_what_was_on_its_way(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Both peers read what the proxy still held, then end of file; bytes sent later are not passed on."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    server_reader, server_writer = await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.latency", {"delay_s": 60.0})
    writer.write(b"question")
    server_writer.write(b"greeting")

    async def held() -> bool:
        return (await proxies.state())["redis"].buffered_bytes == 16

    await eventually(held)
    assert await lever.inject("f1", "network.disconnect", {"how": "fin"}) == {"connections_cut": 1}
    assert await reader.read() == b"greeting"
    writer.write(b"too late")
    assert await server_reader.read() == b"question"
    writer.close()
    server_writer.close()

    async def gone() -> bool:
        return (await proxies.state())["redis"].connections == 0

    await eventually(gone)
    assert (await proxies.state())["redis"].request_bytes == len(b"question")


async def test_fin_closes_for_good_although_a_peer_keeps_its_half_open(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Peers that ignore the end of file do not keep the connection alive."""
    upstream_port, accepted = accepting
    reader, _ = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    await accepted.get()

    async def is_open() -> bool:
        return (await proxies.state())["redis"].connections == 1

    await eventually(is_open)
    await proxies.lever("redis").inject("f0", "network.disconnect", {"how": "fin"})
    assert await reader.read() == b""

    async def gone() -> bool:
        return (await proxies.state())["redis"].connections == 0

    await eventually(gone)
    assert (await proxies.state())["redis"].connections_total == 1


async def test_bytes_that_a_stall_kept_from_a_cut_connection_count(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A stall has bitten although its connection does not live to see the heal."""
    upstream_port, accepted = accepting
    reader, writer = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    await accepted.get()

    async def is_open() -> bool:
        return (await proxies.state())["redis"].connections == 1

    await eventually(is_open)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {"mode": "stall"})
    writer.write(b"kept")
    await writer.drain()
    await lever.inject("f1", "network.disconnect", {})
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert await lever.heal("f0") == {"bytes_held": len(b"kept")}


async def test_fin_ends_a_stalled_connection_when_its_peers_have_closed(
    accepting: Accepting, dial: Dial, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orderly close reads on, past whatever had paused the reading, so that it sees the peers' own end."""
    monkeypatch.setattr(chaos.faults.network.connection, "FIN_LINGER_S", 3600)
    upstream_port, accepted = accepting
    proxy = Proxy("redis", ("127.0.0.1", upstream_port))
    proxy.listen()
    reader, writer = await dial(proxy.port)
    server_reader, server_writer = await accepted.get()

    async def is_open() -> bool:
        return proxy.state().connections == 1

    await eventually(is_open)
    await proxy.inject("f0", PartitionToxic(mode="stall"))
    writer.write(b"thrown away")
    await proxy.inject("f1", DisconnectToxic(how="fin"))
    assert await reader.read() == b""
    assert await server_reader.read() == b""
    writer.close()
    server_writer.close()

    async def gone() -> bool:
        return proxy.state().connections == 0

    await eventually(gone)
    assert proxy.state().request_bytes == 0
    proxy.close()


async def test_half_close_ends_replies_while_requests_still_arrive(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """The client reads end of file; what it sends is delivered, and the answers to it are thrown away."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    reader, writer = await dial(port)
    server_reader, server_writer = await accepted.get()
    server_writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    lever = proxies.lever("redis")
    assert await lever.inject("f0", "network.disconnect", {"how": "half_close"}) == {"connections_cut": 1}
    assert await reader.read() == b""
    writer.write(b"executed")
    assert await server_reader.readexactly(8) == b"executed"
    server_writer.write(b"never seen")
    _, other_writer = await dial(port)
    other_server_reader, _ = await accepted.get()
    other_writer.write(b"new")
    assert await other_server_reader.readexactly(3) == b"new"
    assert await lever.heal("f0") == {"connections_cut": 1, "connections_reset": 1}
    with pytest.raises(ConnectionResetError):
        await server_reader.read()
    assert (await proxies.state())["redis"].reply_bytes == len(b"before")
    other_writer.write(b"!")
    assert await other_server_reader.readexactly(1) == b"!"


@pytest.mark.parametrize("how", ["stall", "discard"])
async def test_silent_cut_leaves_connections_open_and_dead_until_the_heal_resets_them(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually, how: str
) -> None:
    """Nothing crosses in either direction, not even an end, and no peer is told; new connections work."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    reader, writer = await dial(port)
    server_reader, server_writer = await accepted.get()
    await eventually(lambda: _open(proxies))
    lever = proxies.lever("redis")
    assert await lever.inject("f0", "network.disconnect", {"how": how}) == {"connections_cut": 1}
    writer.write(b"question")
    server_writer.write(b"answer")
    server_writer.write_eof()
    _, other_writer = await dial(port)
    other_server_reader, _ = await accepted.get()
    other_writer.write(b"new")
    assert await other_server_reader.readexactly(3) == b"new"
    state = (await proxies.state())["redis"]
    assert (state.request_bytes, state.reply_bytes) == (3, 0)
    assert state.paused_links == (2 if how == "stall" else 0)
    assert not reader.at_eof()
    assert not server_reader.at_eof()
    assert await lever.heal("f0") == {"connections_cut": 1, "connections_reset": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    with pytest.raises(ConnectionResetError):
        await server_reader.read()
    assert await lever.heal("f0") == {}


async def test_stall_stops_a_sender_and_discard_does_not(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """That is what tells the two silent cuts apart: with a stall the sender's buffers fill up."""
    upstream_port, accepted = accepting
    payload = bytes(32 * 1024 * 1024)
    for how in ("stall", "discard"):
        port = await proxies.add(how, "127.0.0.1", upstream_port)
        _, writer = await dial(port)
        await accepted.get()
        await eventually(lambda name=how: _open(proxies, name))
        await proxies.lever(how).inject(how, "network.disconnect", {"how": how})
        writer.write(payload)
        if how == "discard":
            await writer.drain()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await writer.drain()


async def test_silent_cut_can_be_cut_again(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """A dead connection is still one that a reset can end, once; the heal of the first cut finds it gone."""
    upstream_port, accepted = accepting
    reader, _ = await dial(await proxies.add("redis", "127.0.0.1", upstream_port))
    await accepted.get()
    await eventually(lambda: _open(proxies))
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.disconnect", {"how": "stall"})
    assert await lever.inject("f1", "network.disconnect", {"how": "discard"}) == {"connections_cut": 0}
    assert await lever.inject("f2", "network.disconnect", {"how": "rst"}) == {"connections_cut": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert await lever.heal("f0") == {"connections_cut": 1}


@pytest.mark.requires("redis")
async def test_disconnect_after_the_request_leaves_it_executed(
    proxies: ProxyProcess, redis_port: int, redis_client: Client
) -> None:
    """A client that is blocked in a command gets an error, once; the next command opens a new connection."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    direct, through = redis_client(redis_port), redis_client(port)
    await through.ping()
    waiting = asyncio.ensure_future(through.blpop(["queue"], timeout=0))
    while (await direct.info("clients"))["blocked_clients"] != 1:
        pass  # each turn is a round trip to the server
    await proxies.lever("redis").inject("f0", "network.disconnect", {"how": "rst"})
    with pytest.raises(RedisConnectionError):
        await waiting
    assert await redis_client(port).ping()


@pytest.mark.requires("redis")
async def test_refuse_refuses_until_healed_on_the_same_port(
    proxies: ProxyProcess, redis_port: int, redis_client: Client, dial: Dial
) -> None:
    """Open connections are reset, new ones get ECONNREFUSED, and the port works again after the heal."""
    port = await proxies.add("redis", "127.0.0.1", redis_port)
    reader, writer = await dial(port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    lever = proxies.lever("redis")
    evidence = await lever.inject("f0", "network.refuse", {"cut": True})
    assert evidence == {"listener_closed": 1, "connections_cut": 1, "probe_refused": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await dial(port)
    assert not (await proxies.state())["redis"].is_listening
    assert await lever.heal("f0") == evidence
    assert await lever.heal("f0") == {}
    assert await redis_client(port).ping()


async def test_refuse_without_cut_spares_open_connections(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """Only new connections are refused, and the heal works beside those that stayed open."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    reader, writer = await dial(port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    lever = proxies.lever("redis")
    assert await lever.inject("f0", "network.refuse", {"cut": False}) == {"listener_closed": 1, "probe_refused": 1}
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    with pytest.raises(ConnectionRefusedError):
        await dial(port)
    await lever.heal("f0")
    assert await dial(port)


async def test_port_stays_closed_until_the_last_refuse_is_healed(
    proxies: ProxyProcess, echo_port: int, dial: Dial
) -> None:
    """Two faults that overlap do not heal each other, in whatever order they end."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.refuse", {})
    await lever.inject("f1", "network.refuse", {})
    await lever.heal("f0")
    with pytest.raises(ConnectionRefusedError):
        await dial(port)
    await lever.heal("f1")
    assert await dial(port)


async def test_heal_that_fails_says_so_and_can_be_repeated(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """Somebody who listens on our very port makes the heal fail, until they are gone."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.refuse", {})
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(HealFailed, match=r"proxy redis: fault f0 could not be healed.*Address already in use"):
            await lever.heal("f0")
        assert list((await proxies.state())["redis"].faults) == ["f0"]
    assert (await lever.heal("f0"))["probe_refused"] == 1
    assert await dial(port)


async def test_connections_kept_waiting_are_cut_too(
    proxies: ProxyProcess, echo_port: int, dial: Dial, eventually: Eventually
) -> None:
    """A disconnect reaches clients that a partition has not let in."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.partition", {})
    reader, _ = await dial(port)

    async def waits() -> bool:
        return (await proxies.state())["redis"].opening == 1

    await eventually(waits)
    assert await lever.inject("f1", "network.disconnect", {}) == {"connections_cut": 1}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert (await proxies.state())["redis"].opening == 0


async def test_disconnect_with_nothing_to_cut_has_no_evidence(proxies: ProxyProcess, echo_port: int) -> None:
    """Without a connection the fault did not land, and the counter says so."""
    await proxies.add("redis", "127.0.0.1", echo_port)
    assert await proxies.lever("redis").inject("f0", "network.disconnect", {}) == {"connections_cut": 0}


async def test_two_proxies_are_cut_separately(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """A disconnect and a refuse of one proxy leave the other's connections and port alone."""
    await proxies.add("redis", "127.0.0.1", echo_port)
    other_port = await proxies.add("other", "127.0.0.1", echo_port)
    reader, writer = await dial(other_port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    await proxies.lever("redis").inject("f0", "network.refuse", {})
    await proxies.lever("redis").inject("f1", "network.disconnect", {})
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    assert await dial(other_port)


async def _open(proxies: ProxyProcess, name: str = "redis") -> bool:
    """Tell whether the connection has both its sockets."""
    return (await proxies.state())[name].connections == 1
