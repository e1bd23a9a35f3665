"""A real daemon, local images made once, and a look after every test: nothing of it may be left in the daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from chaos.backends.docker import sweep
from chaos.backends.docker.build import build, recipes
from chaos.backends.docker.client import connect
from chaos.backends.docker.environment import ContainerEnvironment, DockerEnvironment
from chaos.backends.docker.images import LOCAL
from chaos.backends.docker.probe import Probe

ROOT = Path(__file__).resolve().parents[2]

SHORT = """
from chaos import Experiment, Recovery, stores, workload

EXPERIMENT = Experiment(
    id="short",
    hypothesis="One second of load passes.",
    stores=(stores.SQLite(), stores.Redis(appendfsync="everysec"), stores.Graph()),
    workload=workload.Transfers(accounts=8, clients=2, rate=40, seconds=1, deadline="1s"),
    recovery=Recovery(budget="10s", hold="200ms"),
    schedule=(),
)
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a daemon, and the programs that the local images are made of."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.requires("docker", "toxiproxy", "redis"))


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The local images, made; the variables that choose them."""
    client = connect()
    for recipe in recipes():
        build(client, recipe)
    client.close()
    return dict(LOCAL)


@pytest.fixture
def local_images(images: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the local images."""
    for variable, name in images.items():
        monkeypatch.setenv(variable, name)


@pytest.fixture
def daemon() -> Iterator[docker.DockerClient]:
    """A client of the tests' own, to look behind the harness."""
    client = connect()
    yield client
    client.close()


def mine(tmp_path: Path) -> list[sweep.Leftover]:
    """Return what the daemon holds of runs below this test's folder."""
    return [one for one in sweep.leftovers() if one.run.startswith(str(tmp_path))]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """Demand after each test that all it made in the daemon is gone, and remove it if not."""
    yield
    left = mine(tmp_path)
    for run in {one.run for one in left}:
        sweep.remove(run)
    assert left == []


class Told(list[tuple[str, int]]):
    """What the environment told of its server."""

    def __call__(self, what: str, number: int) -> None:
        """Remember it."""
        self.append((what, number))


@pytest.fixture
def told() -> Told:
    """Hears of the server."""
    return Told()


@pytest.fixture
def make(tmp_path: Path, told: Told) -> Callable[..., DockerEnvironment]:
    """Return a maker of environments in folders of this test's own."""

    def _make(name: str = "run", **redis: Any) -> DockerEnvironment:
        folder = tmp_path / name
        for part in ("data", "logs"):
            (folder / part).mkdir(parents=True)
        return DockerEnvironment(folder / "data", folder / "logs", run_id=str(folder), redis=redis, on_server=told)

    return _make


@pytest.fixture
async def place(local_images: None, make: Callable[..., DockerEnvironment]) -> AsyncIterator[DockerEnvironment]:
    """A started environment; it must end without a rest."""
    environment = make()
    try:
        await environment.start()
        yield environment
    finally:
        left = await environment.stop()
    assert left == []


def through(environment: ContainerEnvironment) -> Probe:
    """Return a probe of the server by the way that the system under test takes."""
    return Probe(environment.redis_host, environment.redis_port)


class PlaceLevers:
    """The levers of an environment alone, without a run."""

    def __init__(self, environment: ContainerEnvironment) -> None:
        """Act on this environment."""
        self._environment = environment

    def network(self, store: str) -> Any:
        """No network fault is tried here."""
        raise KeyError(store)

    def disk(self, store: str) -> Any:
        """No disk fault is tried here."""
        raise KeyError(store)

    def container(self, store: str) -> Any:
        """Return the container."""
        return {"redis": self._environment.containers}[store]

    async def signal(self, target: str, signal_number: int) -> int:
        """Send a signal to the server."""
        return await self._environment.signal_redis(signal_number)

    async def wait_gone(self, target: str, pid: int, timeout_s: float) -> bool:
        """Wait for the server's end."""
        return await self._environment.redis_gone(pid, timeout_s)

    async def stopped(self, target: str, pid: int) -> bool:
        """Ask whether it is frozen."""
        return await self._environment.redis_stopped(pid)

    def lock(self, store: str) -> int:
        """No lock is taken here."""
        raise ProcessLookupError(store)

    async def empty(self, target: str) -> dict[str, int]:
        """No file is removed here."""
        raise ProcessLookupError(target)

    async def revive(self, target: str) -> None:
        """Start it again."""
        await self._environment.revive_redis()


@pytest.fixture
def levers(place: DockerEnvironment) -> PlaceLevers:
    """The levers of a started environment."""
    return PlaceLevers(place)


def compose_command() -> list[str]:
    """Return the command of Docker Compose v2: the wheel's, else the one on PATH."""
    beside = Path(sys.executable).with_name("docker-compose")
    found = str(beside) if beside.exists() else shutil.which("docker-compose")
    return [found] if found else ["docker", "compose"]


def chaos(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "chaos", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **variables},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
