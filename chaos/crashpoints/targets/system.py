"""The coordinated system as a whole: one recording over Redis, SQLite and the graph, one crash for all three.

The data folder holds a folder for each store, and all their operations have one order, so a state is what the same
moment leaves of all of them. The workload are the transfers of `chaos.workload`, one after the other. After the crash
the coordinator opens what is there, recovers, and must bring the stores to agree: each acknowledged transfer in all
three, each other one in all or none, within 10 seconds. A Redis server that refuses its log is started with an empty
one, which is what an operator would do; the coordinator then fills it from its own log.

`coordinator=FILE.py:Class` puts another `System` in the place of ours, a user's own or one with a planted bug.

The thorough look goes on: one more transfer, a peaceful close, and opening again, when nothing may be made anew.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from msgspec.structs import replace

from chaos._seeds import stream
from chaos.backends import aof
from chaos.backends.redis_server import find_server
from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.targets.base import BuiltIn, text_of
from chaos.crashpoints.targets.forked import Server, ServerEnded, graph_children
from chaos.errors import ChaosError, HarnessError, PlanError, Problem, StoreError
from chaos.history.model import StoreImage
from chaos.stores.graph_engine import GraphEngine
from chaos.stores.graph_launch import StartChild
from chaos.transactions.loading import load_system
from chaos.transactions.local_site import LocalSite
from chaos.transactions.redo import RedoSystem
from chaos.transactions.system import Aborted, Committed, Outcome, Request, SiteConfig, System
from chaos.workload.transfers import SENT, Transfers

_WORKLOAD = Transfers(accounts=6, clients=1, rate=100, seconds=1, reads_redis=False, initial=1000)
_DEADLINE_S = 8.0
_AGREE_S = 10.0
_POLL_S = 0.005
_FOLDERS = ("redis", "sqlite", "graph")
_SMALL = {"buffer_pool_mb": 32, "max_db_size_mb": 256}
"""An engine clears tables that grow with both, at each opening."""

_REFUSED = "redis refused its log, which was set aside"
_REMADE = "{} was made again from the commit log"


class SystemTarget(BuiltIn):
    """`RedoSystem` with its stores."""

    name: ClassVar[str] = "system"
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "engine": ("kuzu", "ladybug"),
        "appendfsync": ("always", "everysec", "no"),
        "synchronous": ("FULL", "NORMAL", "OFF"),
        "transactions": (),
    }
    texts: ClassVar[tuple[str, ...]] = ("coordinator",)
    default_count: ClassVar[int] = 20
    ignored: tuple[str, ...] = ("*-shm", "*.log")
    limit_s: float = 45.0
    thorough_every: int = 4

    def __init__(self, options: Mapping[str, str]) -> None:
        """Take the options; the file of a coordinator is named from here on whatever the folder is."""
        file, colon, name = options.get("coordinator", "").rpartition(":")
        place = f"{Path(file).resolve()}:{name}" if colon and file.endswith(".py") else f"{file}{colon}{name}"
        super().__init__({**options, "coordinator": place})

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when a server is missing, PlanError when the coordinator cannot be loaded."""
        find_server()
        try:
            self._system()
        except HarnessError as error:
            problem = Problem(self.spelled, 0, str(error), "write coordinator=FILE.py:Class", "bad-target")
            raise PlanError([problem]) from error

    def preload(self, folder: Path) -> None:
        """Go through a whole look once, and let the engine plan its statements, in memory."""
        _rehearse_engine(self.options["engine"])
        data = folder / "data"
        data.mkdir(parents=True)
        self.prepare(data)
        with self._serving(data) as server:
            asyncio.run(self._rehearse(self._site(data, server)))
        shutil.rmtree(folder)

    def prepare(self, data: Path) -> None:
        """Make the schema and the first rows in each store, and stop them."""
        for name in _FOLDERS:
            (data / name).mkdir()
        with self._serving(data) as server:
            asyncio.run(self._system().set_up(self._site(data, server)))

    def work(self, data: Path, teller: Teller) -> None:
        """Run the transfers, then close."""
        with self._serving(data) as server:
            asyncio.run(self._work(self._site(data, server), teller))

    def recover(self, data: Path, teller: Teller) -> None:
        """Recover, run one more transfer, close."""
        with self._serving(data) as server:
            asyncio.run(self._recover(self._site(data, server), teller))

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Recover, wait until the stores agree, read them; when `thorough`, go on, close, open and read again."""
        server = _server(data, self.options["appendfsync"])
        start_graph = graph_children(2 if thorough else 1)  # while the server starts
        told: list[str] = []
        try:
            server.wait()
        except ServerEnded:
            told.append(_REFUSED)
            server = _without_log(data, self.options["appendfsync"])
        site = self._site(data, server)
        seen = asyncio.run(self._observe(site, start_graph, thorough=thorough))
        told += [_REMADE.format(name.partition(".")[0]) for name, _ in site.phases if name.endswith(".rebuilt")]
        problems = _integrity(data / "sqlite" / "main.db")
        return replace(seen, told=tuple(told), problems=(*seen.problems, *problems))

    async def _work(self, site: LocalSite, teller: Teller) -> None:
        system = self._system()
        await system.open(site)
        await system.recover(())
        for number in range(1, self.count + 1):
            teller.begin(str(number))
            _tell(await _transact(system, number), str(number), teller)
        teller.phase("close")
        await system.close()

    async def _recover(self, site: LocalSite, teller: Teller) -> None:
        system = self._system()
        await system.open(site)
        await system.recover(())
        number = _next(await _agreed(system))
        teller.begin(str(number))
        _tell(await _transact(system, number), str(number), teller)
        await system.close()

    async def _rehearse(self, site: LocalSite) -> None:
        system = self._system()
        await system.open(site)
        await system.recover(())
        await _transact(system, 1)
        _compared(await _agreed(system))
        await system.close()

    async def _observe(self, site: LocalSite, start_graph: StartChild, *, thorough: bool) -> Observation:
        began = time.monotonic()
        try:
            system = await self._opened(site, start_graph)
            seen = _compared(await _agreed(system))
            seen = replace(seen, recovered_s=round(time.monotonic() - began, 3))
            if thorough and not (seen.problems or seen.partial):
                return await self._gone_on(system, site, start_graph, seen)
        except (ChaosError, TimeoutError) as error:
            return Observation(refused=text_of(error))
        return seen  # without closing: that is for the thorough look

    async def _gone_on(
        self, system: System, site: LocalSite, start_graph: StartChild, seen: Observation
    ) -> Observation:
        number = max(map(int, seen.found), default=0) + 1
        outcome = await _transact(system, number)
        if not isinstance(outcome, Committed):
            return replace(seen, stuck=f"transfer {number}: {outcome}")
        await system.close()
        again_site = LocalSite(site.config)
        again = _compared(await _agreed(await self._opened(again_site, start_graph)))
        if again.partial or again.problems or set(again.found) != {*seen.found, str(number)}:
            return replace(seen, stuck=f"after transfer {number}: {again}"[:300])
        remade = [name for name, _ in again_site.phases if name.endswith(".rebuilt")]
        return seen if not remade else replace(seen, stuck=f"after a peaceful end: {', '.join(remade)}")

    async def _opened(self, site: LocalSite, start_graph: StartChild) -> System:
        system = self._system()
        if isinstance(system, RedoSystem):
            system.start_graph = start_graph
        await system.open(site)
        await system.recover(())
        return system

    def _system(self) -> System:
        return load_system(self.options["coordinator"] or "chaos.transactions.redo:RedoSystem")

    @contextmanager
    def _serving(self, data: Path) -> Iterator[Server]:
        """Start Redis on what is there, or on nothing when it refuses that; stop it in peace."""
        server = _server(data, self.options["appendfsync"])
        try:
            server.wait()
        except ServerEnded:
            server = _without_log(data, self.options["appendfsync"])
        yield server
        server.stop()

    def _site(self, data: Path, server: Server) -> LocalSite:
        return LocalSite(
            SiteConfig(
                redis_host="127.0.0.1",
                redis_port=server.port,
                data_folder=str(data),
                graph_engine=self.options["engine"],
                workload=_WORKLOAD.to_config(),
                options={"sqlite": {"synchronous": self.options["synchronous"]}, "graph": _SMALL},
            )
        )


def _rehearse_engine(name: str) -> None:
    """Run the workload's statements: an engine's first one costs ten times the second. Its threads end with it."""
    engine = GraphEngine(name, Path(":memory:"), **_SMALL)
    genesis = _WORKLOAD.genesis()
    for statement in genesis.graph_schema:
        engine.run(statement, {})
    engine.transact(genesis.rows.graph)
    for token in ("1", "2"):
        parameters = {"token": token, "source": 0, "target": 1, "mark": token, "amount": 1}  # kuzu refuses any more
        engine.transact([(SENT, parameters)])
    engine.census()
    engine.close()


def _server(data: Path, appendfsync: str) -> Server:
    logs = data.with_name("logs")  # where `Stores` puts the graph child's
    logs.mkdir(exist_ok=True)
    return Server(data / "redis", appendfsync, logs / "redis.log")


def _without_log(data: Path, appendfsync: str) -> Server:
    """Set the log aside, as an operator would, and start a server that has none. Raises ServerEnded."""
    aof.set_aside(data / "redis")
    server = _server(data, appendfsync)
    server.wait()
    return server


def _spec(number: int) -> dict[str, Any]:
    return _WORKLOAD.draw(stream(0, "transfer", number), str(number), 0, number)


async def _transact(system: System, number: int) -> Outcome:
    return await system.transact(Request(token=str(number), deadline_s=_DEADLINE_S, spec=_spec(number)))


def _tell(outcome: Outcome, name: str, teller: Teller) -> None:
    if isinstance(outcome, Committed):
        teller.acknowledged(name)
    elif isinstance(outcome, Aborted):
        teller.aborted(name)


async def _agreed(system: System) -> Mapping[str, StoreImage]:
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
