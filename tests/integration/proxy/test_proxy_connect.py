"""Faults of the connect phase: SYN dropped, reset on accept, slow accept; and a way that flaps."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable

import pytest

from chaos.errors import HarnessError, HealFailed
from chaos.faults.network.client import ProxyProcess
from chaos.faults.network.proxy import Proxy
from chaos.faults.network.toxics.drop_syn import DropSynToxic
from chaos.faults.network.toxics.flapping import FlappingToxic
from chaos.faults.network.toxics.refuse import RefuseToxic

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[int], Awaitable[Pair]]
Accepting = tuple[int, asyncio.Queue[Pair]]
Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


async def _connects(port: int, within_s: float) -> bool:
    """Tell whether a connect is answered in time."""
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except TimeoutError:
            return False
    return True


async def test_dropped_syn_makes_connect_hang_until_healed(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """Connects are neither accepted nor refused, and the kernel counts them; open connections were reset."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    reader, writer = await dial(port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    lever = proxies.lever("redis")
    began = await lever.inject("f0", "network.drop_syn", {"cut": True})
    assert began == {"connections_cut": 1, "probe_unanswered": 1, "syns_dropped": 0}
    with pytest.raises(ConnectionResetError):
        await reader.read()
    for _ in range(3):
        assert not await _connects(port, 0.2)
    assert (await proxies.state())["redis"].faults["f0"]["syns_dropped"] == 3
    assert await lever.heal("f0") == {"connections_cut": 1, "probe_unanswered": 1, "syns_dropped": 3}
    reader, writer = await dial(port)
    writer.write(b"y")
    assert await reader.readexactly(1) == b"y"


def _drops(listener: socket.socket) -> int:
    """Return how many SYNs the kernel has dropped at a listener: the ninth number of SO_MEMINFO, which is 55."""
    return struct.unpack("=9I", listener.getsockopt(socket.SOL_SOCKET, 55, 36))[8]


@pytest.mark.parametrize("closed", [False, True])
async def test_dropped_syn_healed_while_it_begins(
    proxy_to: Callable[[int], Proxy], echo_port: int, dial: Dial, eventually: Eventually, closed: bool
) -> None:
    """A heal, or the proxy's end, in the middle of the injection: nothing has bitten, and the port listens again."""
    proxy = proxy_to(echo_port)
    toxic = DropSynToxic(cut=False)
    injecting = asyncio.ensure_future(proxy.inject("f0", toxic))

    async def probing() -> bool:
        return toxic._listener is not None and _drops(toxic._listener) == 1

    await eventually(probing)
    assert not injecting.done()
    if closed:
        proxy.close()
        await injecting
        return
    assert await proxy.heal("f0") == {"probe_unanswered": 0, "syns_dropped": 0}
    assert await injecting == {"probe_unanswered": 0, "syns_dropped": 0}
    assert proxy.state().is_listening
    reader, writer = await dial(proxy.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"


async def test_a_listener_that_cannot_be_watched_is_none(
    proxy_to: Callable[[int], Proxy], echo_port: int, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heal that fails at the last step says so, and can be repeated: nobody believes in a deaf listener."""
    proxy = proxy_to(echo_port)
    await proxy.inject("f0", RefuseToxic(cut=False))
    loop = asyncio.get_running_loop()
    with monkeypatch.context() as broken:
        broken.setattr(loop, "add_reader", _fail)
        with pytest.raises(FileNotFoundError):
            await proxy.heal("f0")
        assert not proxy.state().is_listening
    await proxy.heal("f0")
    reader, writer = await dial(proxy.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"


def _fail(*_: object) -> None:
    raise FileNotFoundError


async def test_connect_that_waits_gets_through_after_the_heal(
    proxies: ProxyProcess, echo_port: int, dial: Dial, eventually: Eventually
) -> None:
    """The client's kernel sends its SYN again, and finds the listener that is back."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.drop_syn", {"cut": False})
    dialing = asyncio.ensure_future(dial(port))

    async def dropped() -> bool:
        return (await proxies.state())["redis"].faults["f0"]["syns_dropped"] >= 1

    await eventually(dropped)
    await lever.heal("f0")
    reader, writer = await dialing
    writer.write(b"late")
    assert await reader.readexactly(4) == b"late"


async def test_dropped_syn_without_cut_spares_open_connections(
    proxies: ProxyProcess, echo_port: int, dial: Dial
) -> None:
    """Only new connections hang."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    reader, writer = await dial(port)
    writer.write(b"1")
    assert await reader.readexactly(1) == b"1"
    await proxies.lever("redis").inject("f0", "network.drop_syn", {"cut": False})
    writer.write(b"2")
    assert await reader.readexactly(1) == b"2"
    assert not await _connects(port, 0.2)


async def test_second_full_listener_on_a_port_says_why_it_cannot_be(
    proxies: ProxyProcess, echo_port: int, dial: Dial
) -> None:
    """The port can be held once; the first fault goes on, and can be healed."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.drop_syn", {})
    with pytest.raises(HarnessError, match=f"another fault holds port {port}; heal it first"):
        await lever.inject("f1", "network.drop_syn", {})
    await lever.heal("f1")
    assert not await _connects(port, 0.2)
    await lever.heal("f0")
    assert await _connects(port, 5)


async def test_removed_proxy_gives_the_port_of_a_full_listener_back(proxies: ProxyProcess, echo_port: int) -> None:
    """A proxy that is removed without a heal leaves no socket behind."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    await proxies.lever("redis").inject("f0", "network.drop_syn", {})
    await proxies.remove("redis")
    assert await proxies.add("redis", "127.0.0.1", echo_port, listen_port=port) == port
    assert await _connects(port, 5)


async def test_reset_on_accept_resets_new_connections_until_healed(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial
) -> None:
    """Each is made and reset, and the upstream never hears of it."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.reset_on_accept", {"cut": True})
    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            await _read_all(dial, port)
    assert await lever.heal("f0") == {"connections_cut": 0, "connections_reset": 3}
    _, writer = await dial(port)
    server_reader, _ = await accepted.get()
    writer.write(b"in")
    assert await server_reader.readexactly(2) == b"in"
    assert accepted.empty()


async def test_slow_accept_delays_new_connections_and_not_what_follows(
    proxies: ProxyProcess, echo_port: int, dial: Dial
) -> None:
    """The first answer is late by the delay, the second is not; a client that has left is still delivered."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.slow_accept", {"delay_s": 0.3})
    started_s = time.monotonic()
    reader, writer = await dial(port)
    writer.write(b"1")
    assert await reader.readexactly(1) == b"1"
    assert time.monotonic() - started_s >= 0.3
    rounds = []
    for _ in range(5):
        started_s = time.monotonic()
        writer.write(b"2")
        assert await reader.readexactly(1) == b"2"
        rounds.append(time.monotonic() - started_s)
    assert min(rounds) < 0.3
    assert await lever.heal("f0") == {"connections_cut": 0, "connections_delayed": 1}


async def test_healed_slow_accept_lets_in_what_waits(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually
) -> None:
    """Even when its client has left: what it sent arrives, and then its end."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.slow_accept", {"delay_s": 60})
    _, writer = await dial(port)
    writer.write(b"late")
    writer.close()
    await writer.wait_closed()

    async def waits() -> bool:
        return (await proxies.state())["redis"].opening == 1

    await eventually(waits)
    assert accepted.empty()
    await lever.heal("f0")
    server_reader, _ = await accepted.get()
    assert await server_reader.read() == b"late"


async def test_flapping_goes_down_and_up_until_healed(
    proxies: ProxyProcess, echo_port: int, dial: Dial, eventually: Eventually
) -> None:
    """It is down at once, comes up by itself, resets what was open when it goes down again, and ends up."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    began = await lever.inject("f0", "network.flapping", {"up_s": 0.1, "down_s": 0.1, "jitter_s": 0.02, "seed": 1})
    assert began["times_down"] == began["probe_refused"] == 1
    with pytest.raises(ConnectionRefusedError):
        await dial(port)

    async def up() -> bool:
        return (await proxies.state())["redis"].is_listening

    await eventually(up)
    reader, _ = await dial(port)
    with pytest.raises(ConnectionResetError):
        await reader.read()

    async def third() -> bool:
        return (await proxies.state())["redis"].faults["f0"]["times_down"] >= 3

    await eventually(third)
    evidence = await lever.heal("f0")
    assert int(evidence["connections_cut"]) >= 1
    assert await _connects(port, 5)
    assert (await proxies.state())["redis"].faults == {}
    assert await lever.heal("f0") == {}


@pytest.mark.parametrize("how", ["discard", "stall"])
async def test_flapping_can_partition_instead_of_refusing(
    proxies: ProxyProcess, accepting: Accepting, dial: Dial, eventually: Eventually, how: str
) -> None:
    """While it is down nothing crosses; the heal ends the present partition too."""
    upstream_port, accepted = accepting
    port = await proxies.add("redis", "127.0.0.1", upstream_port)
    _, writer = await dial(port)
    await accepted.get()
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.flapping", {"up_s": 60, "down_s": 60, "how": how})
    writer.write(b"held")
    await writer.drain()

    async def seen() -> bool:
        state = (await proxies.state())["redis"]
        return how == "stall" or state.faults["f0"].get("bytes_discarded") == 4

    await eventually(seen)
    evidence = await lever.heal("f0")
    assert evidence["bytes_held" if how == "stall" else "bytes_discarded"] == 4
    assert (await proxies.state())["redis"].faults == {}


async def test_heal_of_a_flapping_that_fails_can_be_repeated(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """Somebody who listens on our port while it is down makes the heal fail, until they are gone."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.flapping", {"up_s": 60, "down_s": 60})
    with socket.create_server(("127.0.0.1", port)), pytest.raises(HealFailed, match="Address already in use"):
        await lever.heal("f0")
    assert (await lever.heal("f0"))["times_down"] == 1
    reader, writer = await dial(port)
    writer.write(b"up")
    assert await reader.readexactly(2) == b"up"


async def test_two_flapping_ways_do_not_bring_each_other_up(proxies: ProxyProcess, echo_port: int, dial: Dial) -> None:
    """While one of them is down the port refuses; after both heals it listens."""
    port = await proxies.add("redis", "127.0.0.1", echo_port)
    lever = proxies.lever("redis")
    await lever.inject("f0", "network.flapping", {"up_s": 60, "down_s": 60})
    await lever.inject("f1", "network.flapping", {"up_s": 60, "down_s": 60})
    await lever.heal("f0")
    with pytest.raises(ConnectionRefusedError):
        await dial(port)
    await lever.heal("f1")
    assert await _connects(port, 5)


async def test_closed_proxy_ends_a_cycle(proxy_to: Callable[[int], Proxy], echo_port: int) -> None:
    """A proxy that is closed without a heal has no task left that would go on."""
    proxy = proxy_to(echo_port)
    before = asyncio.all_tasks()
    await proxy.inject("f0", FlappingToxic(up_s=60, down_s=60))
    (task,) = asyncio.all_tasks() - before
    proxy.close()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()


async def _read_all(dial: Dial, port: int) -> bytes:
    """Connect and read; a reset may come before asyncio has noticed that the connection was made."""
    reader, _ = await dial(port)
    return await reader.read()
