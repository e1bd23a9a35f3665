"""A place with all three stores for the tests in this folder, and a judge that knows nothing of the coordinator."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.backends.redis_server import RedisServer, find_server
from chaos.history.model import StoreImage
from chaos.transactions.epoxy import EpoxySystem
from chaos.transactions.local_site import Hook, LocalSite
from chaos.transactions.redo import RedoSystem
from chaos.transactions.system import Committed, Outcome, Request, SiteConfig
from chaos.workload import Transfers

ENGINES = tuple(pytest.param(name, marks=pytest.mark.requires(name)) for name in ("kuzu", "ladybug"))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each graph engine that is installed."""
    name: str = request.param
    return name


ARMS: dict[str, Any] = {"redo": RedoSystem, "epoxy": EpoxySystem}


both_arms = pytest.mark.parametrize("arm", ["redo", "epoxy"], indirect=True)


@pytest.fixture
def arm(request: pytest.FixtureRequest) -> str:
    """Which coordinator; see `both_arms`."""
    name: str = getattr(request, "param", "redo")
    return name


class Place:
    """Folders, a running Redis-compatible server, and systems that are closed at the end of the test."""

    def __init__(self, root: Path, server: RedisServer, engine: str, arm: str = "redo") -> None:
        self.root = root
        self.server = server
        self.engine = engine
        self.kind = ARMS[arm]
        self.workload = Transfers(accounts=6, clients=4, initial=1000)
        self.options: dict[str, Any] = {}
        self.opened: list[Any] = []

    @property
    def config(self) -> SiteConfig:
        """Where the stores of this place are."""
        return SiteConfig(
            redis_host="127.0.0.1",
            redis_port=self.server.port,
            data_folder=str(self.root / "data"),
            graph_engine=self.engine,
            workload=self.workload.to_config(),
            options=self.options,
        )

    def site(self, hook: Hook | None = None) -> LocalSite:
        """Make a site that awaits `hook` at each phase."""
        return LocalSite(self.config, hook)

    async def set_up(self, kind: Callable[[], Any] | None = None) -> None:
        """Create schema and first rows."""
        await (kind or self.kind)().set_up(self.site())

    async def open(self, kind: Callable[[], Any] | None = None, hook: Hook | None = None) -> Any:
        """Open and recover a system; its site is kept as `site` on it."""
        system = (kind or self.kind)()
        system.site = self.site(hook)
        await system.open(system.site)
        self.opened.append(system)
        await system.recover([])
        return system

    def request(self, token: str, deadline_s: float = 5.0, **changes: Any) -> Request:
        """Draw a transaction from the token's own stream."""
        spec = self.workload.draw(random.Random(token), token, 0, 0)
        return Request(token=token, deadline_s=deadline_s, spec={**spec, "reads_redis": False, **changes})


@pytest.fixture
async def place(tmp_path: Path, engine: str, arm: str) -> AsyncIterator[Place]:
    """Empty stores, set up by nobody yet."""
    for name in ("data/sqlite", "data/graph", "data/redis", "logs"):
        (tmp_path / name).mkdir(parents=True)
    server = RedisServer(find_server(), tmp_path / "data" / "redis", tmp_path / "logs" / "redis.log")
    await server.start()
    place = Place(tmp_path, server, engine, arm)
    try:
        yield place
    finally:
        for system in place.opened:
            await system.close()
        await server.stop()


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Wait until `condition` holds, asking again and again."""
    end = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < end, "the condition never came true"
        await asyncio.sleep(0.01)


async def converged(system: Any) -> Mapping[str, StoreImage]:
    """Wait until all stores hold the same, and return what they hold."""
    images: Mapping[str, StoreImage] = {}

    async def same() -> bool:
        nonlocal images
        images = await system.read_back()
        return len({repr(sorted(image.marks.items())) for image in images.values()}) == 1

    await until(same)
    return images


def faults(
    images: Mapping[str, StoreImage], requests: Iterable[Request], outcomes: Mapping[str, Outcome | str | None]
) -> list[str]:
    """Say everything that is wrong: torn, lost, revived, doubled, altered, or balances that differ."""
    wrong: list[str] = []
    for request in requests:
        token, mark = request.token, request.spec["mark"]
        found = {store: image.marks.get(token, []) for store, image in images.items()}
        present = {store for store, marks in found.items() if marks}
        if 0 < len(present) < len(found):
            wrong.append(f"{token} torn: {found}")
        wrong += [f"{token} is {marks} in {store}" for store, marks in found.items() if marks not in ([], [mark])]
        outcome = outcomes.get(token)
        state = outcome if isinstance(outcome, str) else type(outcome).__name__.lower()
        if state == "committed" and len(present) < len(found):
            wrong.append(f"{token} was committed, and is only in {sorted(present)}")
        if state == "aborted" and present:
            wrong.append(f"{token} was aborted, and is in {sorted(present)}")
    if len({repr(sorted(image.counters.items())) for image in images.values()}) != 1:
        wrong.append(f"balances differ: { {store: image.counters for store, image in images.items()} }")
    return wrong


def committed(outcomes: Mapping[str, Outcome]) -> int:
    """Count the acknowledged ones."""
    return sum(isinstance(outcome, Committed) for outcome in outcomes.values())
