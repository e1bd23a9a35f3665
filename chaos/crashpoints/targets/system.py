"""The coordinated system as a whole: one recording over Redis, SQLite and the graph, one crash for all three.

The data folder holds a folder for each store, and all their operations have one order, so a state is what the same
moment leaves of all of them. The workload are the transfers of `chaos.workload`, one after the other. After the crash
the coordinator opens what is there, recovers, and must bring the stores to agree: each acknowledged transfer in all
three, each other one in all or none. A Redis server that refuses its log is started with an empty one, which is what
an operator would do; the coordinator then fills it from its own log.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from chaos._seeds import stream
from chaos.backends.redis_server import RedisServer, find_server
from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.targets.base import BuiltIn, text_of
from chaos.errors import ChaosError, EnvironmentUnavailable, StoreError
from chaos.history.model import StoreImage
from chaos.transactions.local_site import LocalSite
from chaos.transactions.redo import RedoSystem
from chaos.transactions.system import Aborted, Committed, Outcome, Request, SiteConfig
from chaos.workload.transfers import Transfers

_WORKLOAD = Transfers(accounts=6, clients=1, rate=100, seconds=1, reads_redis=False, initial=1000)
_DEADLINE_S = 8.0
_AGREE_S = 10.0
_POLL_S = 0.02
_FOLDERS = ("redis", "sqlite", "graph")


class SystemTarget(BuiltIn):
    """`RedoSystem` with its stores."""

    name: ClassVar[str] = "system"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "engine": ("kuzu", "ladybug"),
        "appendfsync": ("always", "everysec", "no"),
        "synchronous": ("FULL", "NORMAL", "OFF"),
        "transactions": (),
    }
    default_count: ClassVar[int] = 20
    ignored: tuple[str, ...] = ("*-shm", "*.log")
    limit_s: float = 45.0
    thorough_every: int = 4

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when a server or the engine is missing."""
        find_server()

    def prepare(self, data: Path) -> None:
        """Make the schema and the first rows in each store, and stop them."""
        for name in _FOLDERS:
            (data / name).mkdir()
        asyncio.run(self._prepare(data))

    def work(self, data: Path, teller: Teller) -> None:
        """Run the transfers, then close."""
        asyncio.run(self._work(data, teller))

    def recover(self, data: Path, teller: Teller) -> None:
        """Recover, run one more transfer, close."""
        asyncio.run(self._recover(data, teller))

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Recover, wait until the stores agree, read them; when `thorough`, go on and read again."""
        try:
            return asyncio.run(self._observe(data, thorough=thorough))
        except EnvironmentUnavailable as error:
            return Observation(refused=f"redis: {error}"[:300])

    async def _prepare(self, data: Path) -> None:
        async with self._site(data) as site:
            await RedoSystem().set_up(site)

    async def _work(self, data: Path, teller: Teller) -> None:
        async with self._site(data) as site:
            system = self._system()
            await system.open(site)
            await system.recover(())
            for number in range(1, self.count + 1):
                teller.begin(str(number))
                _tell(await _transact(system, number), str(number), teller)
            teller.phase("close")
            await system.close()

    async def _recover(self, data: Path, teller: Teller) -> None:
        async with self._site(data) as site:
            system = self._system()
            await system.open(site)
            await system.recover(())
            images = await _agreed(system)
            number = _next(images)
            teller.begin(str(number))
            _tell(await _transact(system, number), str(number), teller)
            await system.close()

    async def _observe(self, data: Path, *, thorough: bool) -> Observation:
        async with self._site(data) as site:
            system = self._system()
            try:
                await system.open(site)
                await system.recover(())
                seen = _compared(await _agreed(system))
                if thorough and not (seen.problems or seen.partial):
                    seen = await _gone_on(system, seen)
            except (ChaosError, TimeoutError) as error:
                return Observation(refused=text_of(error))
            finally:
                await system.close()
        found = _integrity(data / "sqlite" / "main.db")
        return seen if not found else Observation(found=seen.found, problems=found)

    def _system(self) -> RedoSystem:
        system = RedoSystem()
        system.synchronous = self.options["synchronous"]
        return system

    @asynccontextmanager
    async def _site(self, data: Path) -> AsyncIterator[LocalSite]:
        """Start Redis on what is there, or on nothing when it refuses that, and say where everything is."""
        logs = data.with_name("logs")
        logs.mkdir(exist_ok=True)
        server = RedisServer(find_server(), data / "redis", logs / "redis.log", appendfsync=self.options["appendfsync"])
        try:
            try:
                await server.start()
            except EnvironmentUnavailable:
                shutil.rmtree(data / "redis" / "appendonlydir", ignore_errors=True)
                await server.start()
            yield LocalSite(
                SiteConfig(
                    redis_host="127.0.0.1",
                    redis_port=server.port,
                    data_folder=str(data),
                    graph_engine=self.options["engine"],
                    workload=_WORKLOAD.to_config(),
                )
            )
        finally:
            await server.stop()


def _spec(number: int) -> dict[str, Any]:
    return _WORKLOAD.draw(stream(0, "transfer", number), str(number), 0, number)


async def _transact(system: RedoSystem, number: int) -> Outcome:
    return await system.transact(Request(token=str(number), deadline_s=_DEADLINE_S, spec=_spec(number)))


def _tell(outcome: Outcome, name: str, teller: Teller) -> None:
    if isinstance(outcome, Committed):
        teller.acknowledged(name)
    elif isinstance(outcome, Aborted):
        teller.aborted(name)


async def _agreed(system: RedoSystem) -> Mapping[str, StoreImage]:
    """Read the stores until they agree, for 10 s at most; return what they hold then. Raises the last StoreError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _AGREE_S
    while True:
        over = loop.time() > deadline
        try:
            images = await system.read_back()
            first, *others = images.values()
            if over or all(other.marks == first.marks and other.counters == first.counters for other in others):
                return images
        except StoreError:
            if over:
                raise
        await asyncio.sleep(_POLL_S)


def _compared(images: Mapping[str, StoreImage]) -> Observation:
    """Say which transfers are in all stores, with the right mark and once, and which are in some or otherwise."""
    whole, partial = [], {}
    for name in sorted({name for image in images.values() for name in image.marks}, key=str):
        expected = [_spec(int(name))["mark"]] if name.isdigit() else None
        having = [store for store, image in images.items() if image.marks.get(name) == expected]
        if len(having) == len(images):
            whole.append(name)
        else:
            partial[name] = f"right in {', '.join(having) or 'none'} of {', '.join(images)}"
    counters = {store: image.counters for store, image in images.items()}
    first = next(iter(counters.values()))
    different = [store for store, values in counters.items() if values != first]
    problems = (f"balances differ: {counters}"[:300],) if different and not partial else ()
    return Observation(found=tuple(whole), partial=partial, problems=problems)


async def _gone_on(system: RedoSystem, seen: Observation) -> Observation:
    number = max(map(int, seen.found), default=0) + 1
    outcome = await _transact(system, number)
    if not isinstance(outcome, Committed):
        return Observation(found=seen.found, stuck=f"transfer {number}: {outcome}")
    again = _compared(await _agreed(system))
    if again.partial or again.problems or set(again.found) != {*seen.found, str(number)}:
        return Observation(found=seen.found, stuck=f"after transfer {number}: {again}"[:300])
    return seen


def _next(images: Mapping[str, StoreImage]) -> int:
    return max((int(name) for name in images["sqlite"].marks), default=0) + 1


def _integrity(path: Path) -> tuple[str, ...]:
    connection = sqlite3.connect(path)
    try:
        return tuple(text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok")
    except sqlite3.Error as error:
        return (text_of(error),)
    finally:
        connection.close()
