"""Declared network faults in a real Toxiproxy: they bite, they heal, and nothing is claimed that was not seen."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos import faults
from chaos.backends.ownership import own_name, owner_of
from chaos.backends.ports import Reservation
from chaos.backends.redis_server import RedisServer
from chaos.backends.toxiproxy import Toxiproxy, ToxiproxyProxy
from chaos.errors import HarnessError, HealFailed
from chaos.faults.base import Evidence, Fault
from chaos.faults.network.toxiproxy_lever import ToxiproxyLever

PING = b"PING\r\n"
PONG = b"+PONG\r\n"
SIDES = ("request", "reply", "both")


class Client:
    """Somebody who is connected through the proxy, as the system under test would be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ping(self, timeout_s: float = 5.0) -> float:
        """Return the seconds that a PING took."""
        began_s = time.monotonic()
        self.writer.write(PING)
        async with asyncio.timeout(timeout_s):
            assert await self.reader.readexactly(len(PONG)) == PONG
        return time.monotonic() - began_s


@pytest.fixture
def lever(client: Toxiproxy, proxy: ToxiproxyProxy) -> ToxiproxyLever:
    """The lever on the proxy in front of Redis."""
    return ToxiproxyLever(client, "redis", ("127.0.0.1", proxy.port))


@asynccontextmanager
async def connected(proxy: ToxiproxyProxy) -> AsyncIterator[Client]:
    """Be a client for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        client = Client(reader, writer)
        await client.ping()
        yield client
    finally:
        writer.transport.abort()


async def inject(lever: ToxiproxyLever, fault: Fault, fault_id: str = "f0") -> Evidence:
    """Do what the declared fault does, and wait until its witness has seen what it can see."""
    assert not list(fault.problems())
    assert fault.refused_by("toxiproxy") is None
    evidence = await lever.inject(fault_id, fault.kind, fault.toxic_arguments(random.Random(1)))  # type: ignore[attr-defined]  # a NetworkFault
    witness = lever._acting[fault_id].witness
    if witness is not None:
        await asyncio.wait_for(witness.felt.wait(), 20)
    return evidence


async def is_clean(client: Toxiproxy, proxy: ToxiproxyProxy) -> bool:
    """Whether the proxy is as it was before any fault."""
    return await client.proxy("redis") == proxy


PATHS = [
    *(faults.Latency("redis", "40ms", side=side) for side in SIDES),
    faults.Latency("redis", "40ms", jitter="30ms", side="both"),
    *(faults.Bandwidth("redis", 200_000, side=side) for side in SIDES),
    *(faults.Slicer("redis", 64, delay="2ms", side=side) for side in SIDES),
    faults.Slicer("redis", 64, variation_bytes=16, side="reply"),
    faults.SlowClose("redis", "300ms", side="request"),
    faults.SlowClose("redis", "300ms", side="reply"),
    *(faults.Timeout("redis", "100ms", side=side) for side in SIDES),
    *(faults.Limit("redis", 100, side=side) for side in SIDES),
    *(faults.Noop("redis", side=side) for side in SIDES),
]


def name_of(fault: object) -> str:
    """Return a readable id for a case."""
    return repr(fault).replace("store='redis', ", "")


@pytest.mark.parametrize("fault", PATHS, ids=name_of)
async def test_a_toxic_lands_where_somebody_is_connected(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy, fault: Fault
) -> None:
    """The witness feels it, the counter of its kind says so, and after the heal the proxy is as before."""
    async with connected(proxy):
        await inject(lever, fault)
        assert not await is_clean(client, proxy)
        evidence = await lever.heal("f0")
    assert fault.landed(evidence), evidence
    assert await is_clean(client, proxy)
    async with connected(proxy):
        assert await lever.heal("f0") == {}


@pytest.mark.parametrize(
    "fault",
    [faults.Latency("redis", "40ms"), faults.Noop("redis"), faults.Partition("redis", mode="stall")],
    ids=name_of,
)
async def test_a_toxic_that_nobody_was_there_to_feel_has_not_landed(lever: ToxiproxyLever, fault: Fault) -> None:
    """Our own witness alone is no evidence that the system under test was hit."""
    await inject(lever, fault)
    evidence = await lever.heal("f0")
    assert not fault.landed(evidence)
    assert evidence["clients_connected"] == 0


async def test_a_toxic_that_was_gone_before_it_was_felt_has_not_landed(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy
) -> None:
    """What no witness could see is not claimed, although somebody was connected."""
    fault = faults.Latency("redis", "5s")
    async with connected(proxy):
        await lever.inject("f0", fault.kind, fault.toxic_arguments(random.Random(1)))
        evidence = await lever.heal("f0")
    assert not fault.landed(evidence)
    assert evidence == {"clients_connected": 1}
    assert await is_clean(client, proxy)


async def test_a_toxic_that_misses_every_connection_has_not_landed(
    lever: ToxiproxyLever, proxy: ToxiproxyProxy
) -> None:
    """The witness opens a connection after the other, and none of them is slow."""
    fault = faults.Latency("redis", "1s", toxicity=0.001)
    async with connected(proxy):
        await lever.inject("f0", fault.kind, fault.toxic_arguments(random.Random(1)))
        for _ in range(5):
            async with connected(proxy) as other:
                assert await other.ping() < 0.9
        assert not fault.landed(await lever.heal("f0"))


@pytest.mark.parametrize("side", SIDES)
async def test_latency_delays_the_client(lever: ToxiproxyLever, proxy: ToxiproxyProxy, side: str) -> None:
    """The same delay as the declared one, once per direction."""
    async with connected(proxy) as one:
        await inject(lever, faults.Latency("redis", "40ms", side=side))
        least_s = 0.08 if side == "both" else 0.04
        assert least_s <= min([await one.ping() for _ in range(3)]) < least_s + 0.035
        await lever.heal("f0")
        assert min([await one.ping() for _ in range(3)]) < 0.03


@pytest.mark.parametrize("side", SIDES)
async def test_a_discarding_partition_swallows(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy, side: str
) -> None:
    """Nothing is answered; what was swallowed is counted to the byte; the heal ends the connection."""
    fault = faults.Partition("redis", side=side)
    async with connected(proxy) as one:
        await inject(lever, fault)
        with pytest.raises(TimeoutError):
            await one.ping(0.2)
        evidence = await lever.heal("f0")
        assert await one.reader.read() == b""
    assert evidence["bytes_discarded"] == len(PONG if side == "reply" else PING)
    assert fault.landed(evidence)
    assert await is_clean(client, proxy)


@pytest.mark.parametrize("side", SIDES)
async def test_a_stalling_partition_delivers_late(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy, side: str
) -> None:
    """Nothing is answered, nothing is lost."""
    fault = faults.Partition("redis", side=side, mode="stall")
    async with connected(proxy) as one:
        await inject(lever, fault)
        with pytest.raises(TimeoutError):
            await one.ping(0.2)
        evidence = await lever.heal("f0")
        assert await asyncio.wait_for(one.reader.readexactly(len(PONG)), 5) == PONG
        assert await one.ping() < 1
    assert fault.landed(evidence)
    assert await is_clean(client, proxy)


async def test_a_partition_without_metrics_is_judged_by_its_witness(
    lever: ToxiproxyLever, proxy: ToxiproxyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's own Toxiproxy may have been started without -proxy-metrics."""
    monkeypatch.setattr(lever, "_traffic", _no_traffic)
    fault = faults.Partition("redis")
    async with connected(proxy):
        await inject(lever, fault)
        evidence = await lever.heal("f0")
    assert fault.landed(evidence)


async def _no_traffic() -> None:
    return None


async def test_a_timeout_of_zero_is_a_silence(lever: ToxiproxyLever, proxy: ToxiproxyProxy) -> None:
    """It swallows for ever and closes nothing until it is healed."""
    fault = faults.Timeout("redis", 0, side="reply")
    async with connected(proxy) as one:
        await inject(lever, fault)
        with pytest.raises(TimeoutError):
            await one.ping(0.2)
        assert fault.landed(await lever.heal("f0"))


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "busy"])
@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_a_disconnect_cuts_live_connections(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy, how: str, idle: bool
) -> None:
    """Idle ones too, as it was asked for: with RST or with FIN; new ones work at once."""
    if how == "rst":
        await lever.prepare()
    before = await client.proxy("redis")
    fault = faults.Disconnect("redis", how=how)
    async with connected(proxy) as one, connected(proxy) as two:
        if not idle:
            two.writer.write(PING * 100)
        evidence = await inject(lever, fault)
        for client_of in (one, two):
            try:
                await asyncio.wait_for(client_of.reader.read(), 5)
            except ConnectionResetError:
                assert how == "rst"
            else:
                assert how == "fin" or client_of is two, "a reset was asked for"
        assert evidence == {"connections_cut": 2, "probe_reset": int(how == "rst"), "probe_closed": int(how == "fin")}
        assert await lever.heal("f0") == evidence
        async with connected(proxy) as new:
            await new.ping()
    assert await client.proxy("redis") == before


async def test_a_disconnect_of_nobody_has_not_landed(lever: ToxiproxyLever, proxy: ToxiproxyProxy) -> None:
    """Our own witness was cut, and is not counted."""
    fault = faults.Disconnect("redis", how="fin")
    evidence = await inject(lever, fault)
    assert evidence == {"connections_cut": 0, "probe_reset": 0, "probe_closed": 1}
    assert not fault.landed(evidence)


async def test_refuse_refuses_and_ends_with_its_heal(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy
) -> None:
    """Connections are cut and new ones refused; afterwards the proxy listens on the same port."""
    await lever.prepare()
    fault = faults.Refuse("redis")
    async with connected(proxy) as one:
        evidence = await inject(lever, fault)
        with pytest.raises(ConnectionResetError):
            await one.reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
    assert (evidence["connections_cut"], evidence["probe_refused"]) == (1, 1)
    assert fault.landed(await lever.heal("f0"))
    async with connected(proxy) as new:
        await new.ping()


async def test_two_faults_that_close_the_proxy_open_it_once(lever: ToxiproxyLever, proxy: ToxiproxyProxy) -> None:
    """A cut in the middle of a refusal does not end the refusal, and the first heal of two does not either."""
    await inject(lever, faults.Refuse("redis"), "f0")
    await inject(lever, faults.Refuse("redis"), "f1")
    await inject(lever, faults.Disconnect("redis", how="fin"), "f2")
    await lever.heal("f2")
    await lever.heal("f0")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await lever.heal("f1")
    async with connected(proxy) as new:
        await new.ping()


async def test_faults_of_one_kind_may_overlap(lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy) -> None:
    """Each has its own toxics, and heals them alone."""
    async with connected(proxy) as one:
        await inject(lever, faults.Latency("redis", "40ms", side="reply"), "f0")
        await inject(lever, faults.Latency("redis", "40ms", side="reply"), "f1")
        assert await one.ping() >= 0.08
        await lever.heal("f0")
        assert 0.04 <= min([await one.ping() for _ in range(3)]) < 0.075
        await lever.heal("f1")
    assert await is_clean(client, proxy)


@pytest.mark.parametrize("first", ["f0", "f1"])
async def test_partitions_may_overlap(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy, first: str
) -> None:
    """Replies are lost, and then requests held as well: both land, whichever heals first."""
    both = {
        "f0": faults.Partition("redis", side="reply"),
        "f1": faults.Partition("redis", side="request", mode="stall"),
    }
    async with connected(proxy) as one:
        one.writer.write(PING)
        for fault_id, fault in both.items():
            await inject(lever, fault, fault_id)
        assert both[first].landed(await lever.heal(first))
        second = {"f0": "f1", "f1": "f0"}[first]
        await asyncio.wait_for(lever._acting[second].witness.felt.wait(), 20)  # type: ignore[union-attr]  # it has one
        async with connected_in_vain(proxy):
            assert both[second].landed(await lever.heal(second))
    assert await is_clean(client, proxy)


@asynccontextmanager
async def connected_in_vain(proxy: ToxiproxyProxy) -> AsyncIterator[None]:
    """Be a client that is not answered."""
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield
    finally:
        writer.transport.abort()


async def test_what_a_toxiproxy_cannot_do_is_refused(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy
) -> None:
    """Also when nobody validated the experiment; and there is nothing to heal."""
    for kind, arguments in (
        ("network.disconnect", {"how": "half_close"}),
        ("network.refuse", {"cut": False}),
        ("network.drop_syn", {}),
        ("network.nonsense", {}),
    ):
        with pytest.raises(HarnessError):
            await lever.inject(kind, kind, arguments)
        await lever.heal(kind)
    assert await is_clean(client, proxy)


async def test_a_cancelled_injection_is_healed_whole(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy
) -> None:
    """The request that was on its way is waited for, so no toxic turns up after the heal."""
    fault = faults.Latency("redis", "40ms")
    for turns in range(12):
        task = asyncio.ensure_future(lever.inject("f0", fault.kind, fault.toxic_arguments(random.Random(1))))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await lever.heal("f0")
        assert await is_clean(client, proxy)


async def test_a_heal_that_fails_says_so_and_can_be_repeated(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stolen port: HealFailed names the remedy, and once the port is free the next heal works."""
    await inject(lever, faults.Refuse("redis"))
    thief = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", proxy.port)
    with pytest.raises(HealFailed, match="chaos heal --toxiproxy http://127"):
        await lever.heal("f0")
    thief.close()
    await thief.wait_closed()
    await lever.heal("f0")
    async with connected(proxy) as new:
        await new.ping()


async def test_a_borrowed_proxy_is_marked_while_it_is_closed(
    lever: ToxiproxyLever, client: Toxiproxy, proxy: ToxiproxyProxy, redis: RedisServer
) -> None:
    """Whoever finds it closed can tell whose doing it is; a proxy with our name needs no mark."""
    await inject(lever, faults.Refuse("redis"))
    marks = [toxic.name for toxic in (await client.proxy("redis")).toxics]
    assert [owner_of(name) is not None for name in marks] == [True]
    await lever.heal("f0")
    assert await is_clean(client, proxy)
    with Reservation() as listen:
        own = await client.create(own_name("redis"), f"127.0.0.1:{listen.port}", f"127.0.0.1:{redis.port}")
        ours = ToxiproxyLever(client, own.name, ("127.0.0.1", own.port))
        await inject(ours, faults.Refuse("redis"))
        assert (await client.proxy(own.name)).toxics == ()
        await ours.heal("f0")
