"""Every fault of a container bites, says so in its evidence, and is gone after its heal."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

import pytest
from redis.exceptions import RedisError

from chaos import faults
from chaos.backends.docker.environment import CONTROL, DockerEnvironment
from chaos.faults.base import Fault, Injection
from chaos.faults.container.memory import LIMIT_BYTES_MIN

from .conftest import PlaceLevers, through

RNG = Random(0)


async def _answers(place: DockerEnvironment, timeout_s: float = 0.4) -> bool:
    try:
        async with asyncio.timeout(timeout_s), through(place).client() as client:
            return bool(await client.ping())
    except (RedisError, OSError):
        return False


LASTING: list[tuple[Fault, str]] = [
    (faults.Kill("redis"), "processes_killed"),
    (faults.Pause("redis"), "processes_stopped"),
    (faults.Stop("redis", grace="5s"), "servers_stopped"),
    (faults.NetworkDisconnect("redis"), "networks_left"),
]


@pytest.mark.parametrize(("fault", "counter"), LASTING, ids=[fault.kind for fault, _ in LASTING])
async def test_lasting_faults(place: DockerEnvironment, levers: PlaceLevers, fault: Fault, counter: str) -> None:
    """Before the fault the server answers, while it holds it does not, and after the heal it has all its data."""
    async with through(place).client() as client:
        await client.set("kept", "yes")
    injection = await fault.inject(levers, "f0", RNG)
    assert not await _answers(place)
    evidence = dict(await fault.heal(levers, injection))
    assert evidence[counter] == 1
    assert fault.landed(evidence)
    await through(place).wait_ready()
    async with through(place).client() as client:
        assert await client.get("kept") == "yes"
    assert dict(await fault.heal(levers, injection)) == evidence


async def test_what_a_frozen_server_was_sent_is_done_after_the_thaw(
    place: DockerEnvironment, levers: PlaceLevers
) -> None:
    """A request whose sender gave up takes effect late: that is what makes a pause worse than a kill."""
    fault = faults.Pause("redis")
    async with through(place).client() as client:
        await client.ping()
        injection = await fault.inject(levers, "f0", RNG)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.set("late", "yes")
    await fault.heal(levers, injection)
    async with asyncio.timeout(5), through(place).client() as client:
        while await client.get("late") != "yes":
            await asyncio.sleep(0.01)


async def test_a_connection_outlives_a_pulled_plug(place: DockerEnvironment, levers: PlaceLevers) -> None:
    """The container gets its address back, so TCP delivers over the old connection what was sent in between."""
    fault = faults.NetworkDisconnect("redis")
    reader, writer = await asyncio.open_connection(place.redis_host, place.redis_port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    injection = await fault.inject(levers, "f0", RNG)
    writer.write(b"SET late yes\r\n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.readline()
    await fault.heal(levers, injection)
    async with asyncio.timeout(20):
        assert await reader.readline() == b"+OK\r\n"
    writer.close()
    await writer.wait_closed()


async def test_restart(place: DockerEnvironment, levers: PlaceLevers, told: list[tuple[str, int]]) -> None:
    """Another process answers, on the same data, and its end was an orderly one."""
    async with through(place).client() as client:
        await client.set("kept", "yes")
        before = (await client.info("server"))["run_id"]
    fault = faults.Restart("redis")
    evidence = await fault.heal(levers, await fault.inject(levers, "f0", RNG))
    assert evidence["servers_restarted"] == 1
    assert fault.landed(evidence)
    assert [what for what, _ in told] == ["server_started", "server_exited", "server_started"]
    assert told[1] == ("server_exited", 0)
    async with through(place).client() as client:
        assert (await client.info("server"))["run_id"] != before
        assert await client.get("kept") == "yes"


async def test_a_server_that_does_not_end_in_time_is_killed(place: DockerEnvironment, levers: PlaceLevers) -> None:
    """A server in a long script does not act on SIGTERM: after the grace comes SIGKILL, and the evidence says so."""
    stop = faults.Stop("redis", grace="100ms")
    reader, writer = await asyncio.open_connection(place.redis_host, place.redis_port)
    writer.write(b'EVAL "while true do end" 0\r\n')
    async with asyncio.timeout(5):
        while await _answers(place):
            await asyncio.sleep(0.01)
    injection = await stop.inject(levers, "f0", RNG)
    assert injection.evidence["killed_after_grace"] == 1
    assert await reader.read() == b""
    writer.close()
    await stop.heal(levers, injection)
    assert await _answers(place, 5)


async def test_slow_start(place: DockerEnvironment, levers: PlaceLevers) -> None:
    """For as long as told the container runs and nothing answers; then it does."""
    fault = faults.SlowStart("redis", delay="600ms")
    assert place.containers is not None
    injecting = asyncio.ensure_future(fault.inject(levers, "f0", RNG))
    async with asyncio.timeout(10):
        while not (await place.containers.state())["Paused"]:
            await asyncio.sleep(0)
    assert (await place.containers.state())["Running"]
    assert not await _answers(place, 0.1)
    injection = await injecting
    assert await _answers(place, 5)
    evidence = await fault.heal(levers, injection)
    assert evidence["servers_started_slowly"] == 1
    assert int(evidence["silent_ms"]) >= 600


async def test_a_slow_start_cut_short_is_healed(place: DockerEnvironment, levers: PlaceLevers) -> None:
    """Cancelled while the server is frozen, the heal alone brings it back."""
    fault = faults.SlowStart("redis", delay="60s")
    assert place.containers is not None
    injecting = asyncio.ensure_future(fault.inject(levers, "f0", RNG))
    async with asyncio.timeout(10):
        while not (await place.containers.state())["Paused"]:
            await asyncio.sleep(0)
    injecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await injecting
    await fault.heal(levers, Injection("f0"))
    assert await _answers(place, 5)


async def test_a_start_does_not_wait_for_a_server_that_was_killed(
    place: DockerEnvironment, levers: PlaceLevers
) -> None:
    """A fault that takes the server away again ends the wait of the heal before it; its own heal brings it back."""
    stop, kill = faults.Stop("redis"), faults.Kill("redis")
    assert place.toxiproxy is not None
    first = await stop.inject(levers, "f0", RNG)
    await place.toxiproxy.disable(CONTROL)  # so that no start can see that it is over
    healing = asyncio.ensure_future(stop.heal(levers, first))
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ProcessLookupError):
                second = await kill.inject(levers, "f1", RNG)
                break
            await asyncio.sleep(0.01)
        await healing
    await place.toxiproxy.enable(CONTROL)
    await kill.heal(levers, second)
    assert await _answers(place, 5)


async def test_memory_limit(place: DockerEnvironment, levers: PlaceLevers, told: list[tuple[str, int]]) -> None:
    """A server that wants more than its bound is killed by the kernel; without the bound it may have all it wants."""
    fault = faults.MemoryLimit("redis", LIMIT_BYTES_MIN)
    injection = await fault.inject(levers, "f0", RNG)
    megabyte = b"x" * 2**20

    async def _fill(megabytes: int) -> None:
        async with through(place).client() as client:
            for number in range(megabytes):
                await client.set(f"big:{number}", megabyte)

    with pytest.raises(RedisError):
        await _fill(64)
    async with asyncio.timeout(10):
        while ("server_exited", -9) not in told:
            await asyncio.sleep(0.01)
    evidence = await fault.heal(levers, injection)
    assert int(evidence["oom_kills"]) >= 1
    assert fault.landed(evidence)
    await through(place).wait_ready()
    await _fill(16)


async def test_a_memory_limit_that_nobody_meets_did_not_land(place: DockerEnvironment, levers: PlaceLevers) -> None:
    """The witness of the test above: a bound that is far away leaves no evidence."""
    fault = faults.MemoryLimit("redis", 2**30)
    injection = await fault.inject(levers, "f0", RNG)
    assert await _answers(place)
    assert not fault.landed(await fault.heal(levers, injection))


async def test_stopping_what_is_down_finds_no_process(place: DockerEnvironment, levers: PlaceLevers) -> None:
    """A second stop does not count as one; the nemesis waits a little for a server that is on its way."""
    first, second = faults.Stop("redis"), faults.Stop("redis")
    injection = await first.inject(levers, "f0", RNG)
    with pytest.raises(ProcessLookupError):
        await second.inject(levers, "f1", RNG)
    with pytest.raises(ProcessLookupError):
        await faults.Pause("redis").inject(levers, "f2", RNG)
    await first.heal(levers, injection)
    assert await _answers(place, 5)
