"""A compose stack: up on its own, lent to a run, given back as it was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import docker
import pytest
from tests_support import wait_until

from chaos import faults
from chaos.backends.docker import sweep
from chaos.backends.docker.compose import BEFORE_KEY, OWNER_KEY, ComposeEnvironment
from chaos.backends.docker.probe import Probe
from chaos.backends.ports import Reservation
from chaos.errors import EnvironmentUnavailable

from .conftest import ROOT, PlaceLevers, Told, chaos, compose_command, through

pytestmark = pytest.mark.requires("compose")
OFFLINE = ROOT / "compose/compose.offline.yaml"


class Stack:
    """A stack of the tests' own: its project, its ports, and its user's view of it."""

    def __init__(self) -> None:
        """Nothing is up yet."""
        self.project = f"chaos-test-{uuid.uuid4().hex[:8]}"
        self.redis, self.api = Reservation(), Reservation()
        self.variables = {
            **os.environ,
            "CHAOS_REDIS_PORT": str(self.redis.port),
            "CHAOS_TOXIPROXY_PORT": str(self.api.port),
        }

    def __call__(self, *words: str) -> None:
        """Run a command of compose on it."""
        command = [*compose_command(), "-f", str(OFFLINE), "-p", self.project, *words]
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    @property
    def user(self) -> Probe:
        """The way of the stack's user to Redis."""
        return Probe("127.0.0.1", self.redis.port)

    def container(self, daemon: docker.DockerClient, service: str) -> Any:
        """Return the container of a service."""
        return daemon.containers.get(f"{self.project}-{service}-1")


@pytest.fixture(scope="module")
def lasting_stack(images: dict[str, str]) -> Iterator[Stack]:
    """One stack for all tests here: they must give it back anyhow."""
    stack = Stack()
    try:
        stack("up", "--wait")
        yield stack
    finally:
        stack("down", "--volumes", "--timeout", "1")
        stack.redis.close()
        stack.api.close()


@pytest.fixture
async def stack(
    lasting_stack: Stack, monkeypatch: pytest.MonkeyPatch, daemon: docker.DockerClient
) -> AsyncIterator[Stack]:
    """The stack, chosen; after the test it must run, hold nothing, and have only its user's proxy."""
    monkeypatch.setenv("CHAOS_COMPOSE_PROJECT", lasting_stack.project)
    yield lasting_stack
    state = lasting_stack.container(daemon, "redis").attrs["State"]
    assert (state["Running"], state["Paused"]) == (True, False)
    await lasting_stack.user.wait_ready()
    async with lasting_stack.user.client() as client:
        assert await client.keys() == []
        assert await client.config_get("appendfsync") == {"appendfsync": "always"}


@pytest.fixture
def attach(tmp_path: Path, told: Told) -> Callable[..., ComposeEnvironment]:
    """Return a maker of environments on the stack; the last note for the guardian is in `notes`."""

    def _attach(name: str = "run", notes: list[dict[str, Any]] | None = None, **redis: Any) -> ComposeEnvironment:
        folder = tmp_path / name
        for part in ("data", "logs"):
            (folder / part).mkdir(parents=True)
        on_stack = (notes if notes is not None else []).append
        return ComposeEnvironment(folder / "data", folder / "logs", redis=redis, on_server=told, on_stack=on_stack)

    return _attach


def _proxies(stack: Stack) -> list[str]:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{stack.api.port}/proxies", timeout=5) as answer:
        return sorted(json.load(answer))


async def test_lent_and_given_back(stack: Stack, attach: Callable[..., ComposeEnvironment], tmp_path: Path) -> None:
    """The run has proxies and settings of its own, and takes both away with its data when it leaves."""
    place = attach(appendfsync="everysec")
    try:
        await place.start()
        assert _proxies(stack) != ["redis"]
        assert place.identities["redis"]["appendfsync"] == "everysec"
        assert place.identities["redis"]["image"] == "chaos/valkey:local"
        async with through(place).client() as client:
            await client.set("mine", "1")
    finally:
        assert await place.stop() == []
    assert await place.stop() == []
    assert _proxies(stack) == ["redis"]
    assert (tmp_path / "run/logs/proxy.log").stat().st_size > 0


async def test_data_of_others_are_not_touched(stack: Stack, attach: Callable[..., ComposeEnvironment]) -> None:
    """A database that holds anything is refused, and holds the same afterwards."""
    async with stack.user.client() as client:
        await client.set("theirs", "precious")
        place = attach()
        try:
            with pytest.raises(EnvironmentUnavailable, match="holds 1 keys that are not of a run"):
                await place.start()
        finally:
            assert await place.stop() == []
        assert await client.keys() == ["theirs"]
        assert await client.get("theirs") == "precious"
        await client.delete("theirs")
    assert _proxies(stack) == ["redis"]


async def test_one_run_at_a_time(stack: Stack, attach: Callable[..., ComposeEnvironment]) -> None:
    """A second run is told who has the stack, and disturbs nothing."""
    first, second = attach("first"), attach("second")
    try:
        await first.start()
        with pytest.raises(EnvironmentUnavailable, match="in use by another run"):
            await second.start()
        assert await second.stop() == []
        await through(first).wait_ready()
    finally:
        assert await first.stop() == []


async def test_data_of_a_dead_run_are_cleaned_away(stack: Stack, attach: Callable[..., ComposeEnvironment]) -> None:
    """What a killed run left in the database is nobody's any more, and the settings before it are given back."""
    from chaos.backends.ownership import Owner

    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    started = sweep.start_time(gone.pid) or "0"
    gone.wait()
    async with stack.user.client() as client:
        await client.set(OWNER_KEY, Owner(Owner.this().place, gone.pid, started).mark)
        await client.hset(BEFORE_KEY, "appendfsync", "always")
        await client.set("balance:1", "5")
        await client.config_set("appendfsync", "no")
    place = attach()
    try:
        await place.start()
        async with stack.user.client() as client:
            assert set(await client.keys()) == {OWNER_KEY, BEFORE_KEY}
    finally:
        assert await place.stop() == []


async def test_faults_reach_the_stack_and_are_healed(stack: Stack, attach: Callable[..., ComposeEnvironment]) -> None:
    """Kill, freeze and pulled plug act on the user's own container; the durability asked for survives its restart."""
    place = attach(appendfsync="no")
    try:
        await place.start()
        levers = PlaceLevers(place)
        for fault in (faults.Kill("redis"), faults.Pause("redis"), faults.NetworkDisconnect("redis")):
            injection = await fault.inject(levers, "f0", Random(0))
            assert fault.landed(await fault.heal(levers, injection))
            await through(place).wait_ready()
            async with through(place).client() as client:
                assert await client.config_get("appendfsync") == {"appendfsync": "no"}
    finally:
        assert await place.stop() == []


@pytest.mark.parametrize("harm", ["paused", "killed", "unplugged", "bound"])
async def test_a_stack_is_restored_from_the_note(
    stack: Stack, attach: Callable[..., ComposeEnvironment], daemon: docker.DockerClient, harm: str
) -> None:
    """Whatever holds when the harness dies, the note is enough to give the stack back; the data wait for the next run."""
    notes: list[dict[str, Any]] = []
    place = attach(notes=notes)
    try:
        await place.start()
        assert place.containers is not None
        match harm:
            case "paused":
                await place.signal_redis(signal.SIGSTOP)
            case "killed":
                await place.redis_gone(await place.signal_redis(signal.SIGKILL), 5)
            case "unplugged":
                await place.containers.disconnect()
            case "bound":
                await place.containers.limit_memory(2**26)
        swept = await asyncio.to_thread(sweep.restore, json.loads(json.dumps(notes[0])))
        assert swept.stuck == []
        assert len(swept.removed) == 3, swept.removed
        assert _proxies(stack) == ["redis"]
        await stack.user.wait_ready()
        assert stack.container(daemon, "redis").attrs["HostConfig"]["Memory"] in (0, sweep.NO_BOUND_BYTES)
        assert (await asyncio.to_thread(sweep.restore, notes[0])).removed == []
    finally:
        await place.stop()
        async with stack.user.client() as client:
            await client.flushdb()
            await client.config_set("appendfsync", "always")


async def test_a_killed_harness_gives_the_stack_back(stack: Stack, tmp_path: Path, daemon: docker.DockerClient) -> None:
    """A harness killed while Redis is frozen: the guardian thaws it and removes the run's proxies."""
    harness = subprocess.Popen(
        [sys.executable, "-m", "chaos", "run", str(ROOT / "experiments/redis_paused.py"), "--backend", "compose"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: stack.container(daemon, "redis").attrs["State"]["Paused"], 60)
        assert _proxies(stack) != ["redis"]
    finally:
        harness.kill()
        harness.wait()
    assert wait_until(lambda: not stack.container(daemon, "redis").attrs["State"]["Paused"], 10)
    assert wait_until(lambda: _proxies(stack) == ["redis"], 10)
    async with stack.user.client() as client:
        await client.flushdb()
        await client.config_set("appendfsync", "always")


@pytest.mark.slow
async def test_the_main_job_on_a_stack(stack: Stack, tmp_path: Path) -> None:
    """experiments/partition.py passes with --backend compose, and the run folder has the same shape."""
    done = await asyncio.to_thread(
        chaos, "run", ROOT / "experiments/partition.py", "--backend", "compose", "--seed", "1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in (tmp_path / "runs/latest/logs").iterdir()}
    assert names >= {"redis.log", "proxy.log", "worker.log"}
    assert _proxies(stack) == ["redis"]


def test_no_stack_is_up(tmp_path: Path) -> None:
    """Exit code 4, with the command that starts one."""
    done = chaos(
        "run",
        ROOT / "experiments/partition.py",
        "--backend",
        "compose",
        cwd=tmp_path,
        CHAOS_COMPOSE_PROJECT="chaos-test-absent",
    )
    assert done.returncode == 4
    assert "no compose stack 'chaos-test-absent' with the services redis and toxiproxy is up" in done.stdout
    assert "docker compose -f compose/compose.yaml up --wait" in done.stdout


@pytest.mark.parametrize("file", ["compose.yaml", "compose.offline.yaml"])
def test_the_files_say_what_they_promise(file: str) -> None:
    """Published on loopback only, Redis not at all, a named volume, a health check each, images by the two variables."""
    command = [*compose_command(), "-f", str(ROOT / "compose" / file), "config", "--format", "json"]
    done = subprocess.run(
        command,
        env={**os.environ, "CHAOS_REDIS_IMAGE": "some/redis:1", "CHAOS_TOXIPROXY_IMAGE": "some/toxiproxy:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == {"redis", "toxiproxy"}
    assert "ports" not in services["redis"]
    assert {port["host_ip"] for port in services["toxiproxy"]["ports"]} == {"127.0.0.1"}
    assert [volume["type"] for volume in services["redis"]["volumes"]] == ["volume"]
    assert all(service["healthcheck"]["test"] for service in services.values())
    assert "-host=0.0.0.0" in services["toxiproxy"]["command"]
    local = file == "compose.offline.yaml"
    wanted = ("chaos/valkey:local", "chaos/toxiproxy:local") if local else ("some/redis:1", "some/toxiproxy:1")
    assert (services["redis"]["image"], services["toxiproxy"]["image"]) == wanted
