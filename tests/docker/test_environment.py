"""The full cycle of a place made of containers, and the ways in which it may be cut short."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import docker
import pytest
from tests_support import wait_until

from chaos.backends.docker import sweep
from chaos.backends.docker.environment import DockerEnvironment
from chaos.errors import EnvironmentUnavailable, HarnessError

from .conftest import ROOT, chaos, mine, through


async def test_a_full_cycle(
    local_images: None, make: Callable[..., DockerEnvironment], daemon: docker.DockerClient, tmp_path: Path
) -> None:
    """Server and Toxiproxy come up with the settings asked for, and go without a rest, leaving logs and data."""
    place = make(appendfsync="everysec")
    try:
        await place.start()
        assert {one.kind for one in mine(tmp_path)} == {"container", "network", "volume"}
        assert {one.owner for one in mine(tmp_path)} == {"alive"}
        assert place.identities["redis"]["appendfsync"] == "everysec"
        assert place.identities["redis"]["digest"] == daemon.images.get("chaos/valkey:local").id
        assert place.identities["toxiproxy"]["digest"] == daemon.images.get("chaos/toxiproxy:local").id
        async with through(place).client() as client:
            await client.set("kept", "yes")
            assert (await client.config_get("appendonly"))["appendonly"] == "yes"
    finally:
        assert await place.stop() == []
    assert await place.stop() == []
    assert mine(tmp_path) == []
    assert (tmp_path / "run/logs/redis.log").stat().st_size > 0
    assert (tmp_path / "run/logs/proxy.log").stat().st_size > 0
    saved = b"".join(path.read_bytes() for path in (tmp_path / "run/data/redis").rglob("*") if path.is_file())
    assert b"kept" in saved


async def test_only_the_toxiproxy_is_published_and_only_on_loopback(
    place: DockerEnvironment, daemon: docker.DockerClient, tmp_path: Path
) -> None:
    """Nobody outside of this machine can reach a port, and nobody at all the server without the proxy."""
    found = {}
    for one in mine(tmp_path):
        if one.kind == "container":
            ports = daemon.containers.get(one.name).attrs["NetworkSettings"]["Ports"]
            found[one.name.rpartition("-")[2]] = {
                binding["HostIp"] for bindings in ports.values() if bindings for binding in bindings
            }
    assert found == {"redis": set(), "toxiproxy": {"127.0.0.1"}}
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", place.redis_port))


async def test_two_places_side_by_side(local_images: None, make: Callable[..., DockerEnvironment]) -> None:
    """Two runs at once have servers, networks and ports of their own; the end of one leaves the other alone."""
    first, second = make("first"), make("second")
    try:
        await asyncio.gather(first.start(), second.start())
        async with through(first).client() as client:
            await client.set("whose", "first")
        async with through(second).client() as client:
            assert await client.get("whose") is None
        assert await first.stop() == []
        await through(second).wait_ready()
    finally:
        assert await first.stop() == []
        assert await second.stop() == []


async def test_a_start_that_fails_leaves_nothing(
    local_images: None, make: Callable[..., DockerEnvironment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An image that is no Toxiproxy is told with its last words, and what was made by then is removed."""
    monkeypatch.setenv("CHAOS_TOXIPROXY_IMAGE", "chaos/valkey:local")
    place = make()
    try:
        with pytest.raises(EnvironmentUnavailable, match="container of toxiproxy ended"):
            await place.start()
        assert mine(tmp_path) != []
    finally:
        assert await place.stop() == []


@pytest.mark.parametrize("kind", ["network", "volume", "container"])
async def test_a_start_that_is_cancelled_leaves_nothing(
    local_images: None, make: Callable[..., DockerEnvironment], tmp_path: Path, kind: str
) -> None:
    """Wherever a start is interrupted, what the daemon was just about to make is removed, too."""
    place = make()
    start = asyncio.ensure_future(place.start())
    try:
        while kind not in {one.kind for one in await asyncio.to_thread(mine, tmp_path)} and not start.done():
            await asyncio.sleep(0)
        start.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await start
    finally:
        assert await place.stop() == []
    assert mine(tmp_path) == []


async def test_a_server_that_ends_by_itself_is_started_again(
    place: DockerEnvironment, told: list[tuple[str, int]]
) -> None:
    """The end and the new start are told, and the data are still there."""
    async with through(place).client() as client:
        await client.set("kept", "yes")
    await place.signal_redis(signal.SIGTERM)
    async with asyncio.timeout(10):
        while [what for what, _ in told] != ["server_started", "server_exited", "server_started"]:
            await asyncio.sleep(0.01)
    await through(place).wait_ready()
    async with through(place).client() as client:
        assert await client.get("kept") == "yes"
    assert place.lost_proxy() is None


async def test_a_toxiproxy_that_ends_is_a_failure_of_the_harness(
    place: DockerEnvironment, daemon: docker.DockerClient, tmp_path: Path
) -> None:
    """No fault aims at the Toxiproxy, so its end is told at once."""
    assert place.lost_proxy() is None
    name = next(one.name for one in mine(tmp_path) if one.name.endswith("-toxiproxy"))
    daemon.containers.get(name).kill()
    async with asyncio.timeout(10):
        while place.lost_proxy() is None:
            await asyncio.sleep(0.01)
    assert isinstance(place.lost_proxy(), HarnessError)
    assert "ended by itself with status 137" in str(place.lost_proxy())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["partition.py", "redis_paused.py", "redis_restarted.py"])
def test_an_experiment_passes_in_containers(local_images: None, tmp_path: Path, name: str) -> None:
    """The main job, and what only containers can do; run.json tells the images' digests."""
    done = chaos("run", ROOT / "experiments" / name, "--backend", "docker", "--seed", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "runs/latest/run.json").read_text())
    assert run["backend"] == "docker"
    assert run["stores"]["redis"]["digest"].startswith("sha256:")
    assert {path.name for path in (tmp_path / "runs/latest/logs").iterdir()} >= {"redis.log", "proxy.log", "worker.log"}


def test_a_killed_harness_leaves_nothing(local_images: None, tmp_path: Path) -> None:
    """After kill -9 the guardian removes every container, network and volume of the run."""
    command = [sys.executable, "-m", "chaos", "run", str(ROOT / "experiments/partition.py"), "--backend", "docker"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    harness = subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    history = tmp_path / "runs/latest/history.jsonl"
    try:
        assert wait_until(lambda: history.exists() and '"load_started"' in history.read_text(), 60)
        assert {one.kind for one in mine(tmp_path)} == {"container", "network", "volume"}
    finally:
        harness.kill()
        harness.wait()
    assert wait_until(lambda: mine(tmp_path) == [], 10)


def test_leftovers_of_the_dead_are_told_from_the_living(
    local_images: None, daemon: docker.DockerClient, tmp_path: Path
) -> None:
    """A container of a process that is gone is "dead", one of another machine "elsewhere"; unlabelled ones stay out."""
    run = str(tmp_path / "somebody")
    labels = sweep.harness_labels(run)
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    dead = f"{gone.pid}:{sweep.start_time(gone.pid) or 0}"
    gone.wait()
    daemon.volumes.create(f"{tmp_path.name}-alive", labels=labels)
    daemon.volumes.create(f"{tmp_path.name}-dead", labels={**labels, sweep.HARNESS_LABEL: dead})
    daemon.volumes.create(f"{tmp_path.name}-away", labels={**labels, sweep.PLACE_LABEL: "another/machine"})
    stranger = daemon.volumes.create(f"{tmp_path.name}-stranger")
    try:
        owners = {one.name.rpartition("-")[2]: one.owner for one in mine(tmp_path)}
        assert owners == {"alive": "alive", "dead": "dead", "away": "elsewhere"}
        assert len(sweep.remove(run).removed) == 3
        stranger.reload()
    finally:
        stranger.remove()


def test_a_frozen_container_is_removed(local_images: None, daemon: docker.DockerClient, tmp_path: Path) -> None:
    """The sweep gets rid of a container that the freezer holds."""
    run = str(tmp_path / "frozen")
    container = daemon.containers.create("chaos/valkey:local", labels=sweep.harness_labels(run))
    container.start()
    container.pause()
    swept = sweep.remove(run)
    assert swept.stuck == []
    assert [text.partition(" ")[0] for text in swept.removed] == ["container"]
