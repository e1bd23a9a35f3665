"""Random transactions against an independent model: every outcome, every read and every store must agree with it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chaos import transactions
from chaos.backends.redis_server import RedisServer, find_server
from chaos.errors import TransactionAborted, TransactionInDoubt
from chaos.transactions.local_site import QuietSite
from chaos.transactions.system import SiteConfig
from chaos.transactions.view import OwnWritesUnreadable

from .conftest import both_arms, until
from .fuzz_model import GRAPH, READS_OF_GRAPH, REDIS, SQL, Impossible, Model, Op, ask, draw, perform

pytestmark = pytest.mark.requires("redis")

CLIENTS = 12
SCHEMA = transactions.Genesis(
    sqlite_schema=("CREATE TABLE IF NOT EXISTS items(id INTEGER PRIMARY KEY, grp INTEGER, value INTEGER)",),
    graph_schema=(
        "CREATE NODE TABLE IF NOT EXISTS Node(id STRING, v INT64, PRIMARY KEY(id))",
        "CREATE REL TABLE IF NOT EXISTS LINK(FROM Node TO Node, id STRING)",
    ),
    rows=transactions.Writes(
        sqlite=tuple(
            ("INSERT INTO items VALUES (?, ?, ?)", (n, group, value)) for n, (group, value) in Model().items.items()
        )
    ),
)


@dataclass
class Tried:
    """One transaction: what it was told to do, what it saw, what it was told of its end."""

    token: str
    isolation: str
    read_only: bool
    done: list[Op] = field(default_factory=list)
    seen: list[tuple[Op, int, Any]] = field(
        default_factory=list
    )  # the read, how much was written before it, the answer
    as_of: int | None = None
    csn: int | None = None
    end: str = "cancelled"


class Refused(Exception):
    """The body wants no commit."""


class Site(QuietSite):
    """Knows the graph's process, and counts how many there were."""

    def __init__(self, config: SiteConfig) -> None:
        """No child has been started."""
        super().__init__(config)
        self.pid: int | None = None
        self.children = 0

    def child(self, target: str, pid: int | None) -> None:
        """Note it."""
        self.pid = pid
        self.children += pid is not None


class Fuzz:
    """Clients that run random transactions, and what became of each."""

    def __init__(self, coordinator: Any, site: Site, total: int, seed: int, *, changes: bool) -> None:
        """Run `total` transactions."""
        self.coordinator = coordinator
        self.site = site
        self.tried: list[Tried] = []
        self.nodes: list[str] = []
        self.links: list[str] = []
        self.kills = 0
        self._numbers = iter(range(total))
        self._total = total
        self._seed = seed
        self._changes = changes

    async def run(self) -> None:
        """Let all clients work to the end."""
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    async def _client(self) -> None:
        for number in self._numbers:
            rng = Random(f"{self._seed} {number}")
            if number and number % max(100, self._total // 6) == 0 and self.site.pid is not None:
                os.kill(self.site.pid, signal.SIGKILL)
                self.kills += 1
            await self._starve(number)
            await self._one(rng, str(number))

    async def _starve(self, number: int) -> None:
        """Now and then let Redis refuse everything that it would have to keep, while a few transactions run."""
        phase = number % max(50, self._total // 20)
        if phase in (20, 24):
            await self.coordinator._stores.redis.execute("CONFIG", "SET", "maxmemory", "1" if phase == 20 else "0")

    async def _one(self, rng: Random, token: str) -> None:
        tried = Tried(token, rng.choice(["serializable", "serializable", "snapshot"]), rng.random() < 0.15)
        self.tried.append(tried)
        deadline_s = rng.choice([10.0] * 8 + [0.002, 0.01])
        task = asyncio.create_task(self._transaction(rng, tried, deadline_s))
        if rng.random() < 0.05:
            for _ in range(rng.randrange(30)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _transaction(self, rng: Random, tried: Tried, deadline_s: float) -> None:
        writes, reads = draw(rng, tried.token, self.nodes, self.links, changes=self._changes)
        steps = [*([] if tried.read_only else writes), *reads]
        rng.shuffle(steps)
        try:
            async with self.coordinator.transaction(
                token=tried.token, deadline_s=deadline_s, isolation=tried.isolation, read_only=tried.read_only
            ) as txn:
                for op in steps:
                    await self._step(txn, tried, op)
                tried.as_of = txn.view.csn
                if rng.random() < 0.05:
                    raise Refused
            tried.csn, tried.end = txn.csn, "committed"
            self.nodes += [op[1] for op in tried.done if op[0] == "node"]
            self.links += [op[1] for op in tried.done if op[0] == "link"]
        except TransactionAborted as error:
            tried.end = "conflict" if error.retryable else "aborted"
        except TransactionInDoubt:
            tried.end = "in doubt"
        except Refused:
            tried.end = "refused"

    @staticmethod
    async def _step(txn: Any, tried: Tried, op: Op) -> None:
        if op[0] in GRAPH | set(REDIS) | {"insert", "update", "add_to_group", "delete"}:
            perform(txn, op)
            tried.done.append(op)
            return
        try:
            answer = await ask(txn, op)
        except OwnWritesUnreadable:
            assert op[0] in READS_OF_GRAPH
            assert any(one[0] in GRAPH for one in tried.done)
            return
        tried.seen.append((op, len(tried.done), answer))


def divergences(tried: list[Tried], numbers: dict[str, int], last: int, model: Model) -> Iterator[str]:
    """Replay what was committed, in its order, and yield every answer and every outcome that differs."""
    by_number = {csn: next(one for one in tried if one.token == token) for token, csn in numbers.items()}
    for one in tried:
        if one.end in ("aborted", "conflict", "refused") and one.token in numbers:
            yield f"{one.token} was called {one.end} and is in the log"
        if one.end == "committed" and not one.read_only and numbers.get(one.token) != one.csn:
            yield f"{one.token} was told {one.csn}, the log says {numbers.get(one.token)}"
    looking: defaultdict[int, list[Tried]] = defaultdict(list)
    for one in tried:
        if one.as_of is not None and one.seen:
            looking[one.as_of].append(one)
    for csn in range(last + 1):
        if csn:
            for op in by_number[csn].done:
                model.apply(op)
        for one in looking[csn]:
            yield from _misread(one, model, f"as of {csn}")
        following = by_number.get(csn + 1)
        if following is not None and following.isolation == "serializable" and following.done:
            yield from _misread(following, model, "at its commit")


def _misread(one: Tried, model: Model, when: str) -> Iterator[str]:
    for op, before, answer in one.seen:
        state = model
        if before and op[0] not in READS_OF_GRAPH:
            state = model.without_graph()
            store = SQL if op[0] in SQL else REDIS
            for own in one.done[:before]:
                if own[0] in store:
                    with suppress(Impossible):  # then it is not in the way of this answer, or there would be none
                        state.apply(own)
        if state.answer(op) != answer:
            yield f"{one.token} ({one.isolation}) read {op} {when}: {answer}, not {state.answer(op)}"


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.requires(name)) for name in ("kuzu", "ladybug")]
)
@both_arms
@pytest.mark.timeout(1800)
async def test_random_transactions_agree_with_the_model(tmp_path: Path, engine: str, arm: Any) -> None:
    """Whatever is read, written, deleted, linked, aborted, cancelled and killed: no answer and no store diverges."""
    total = int(os.environ.get("CHAOS_FUZZ", 0)) or (10_000 if os.environ.get("CHAOS_DEEP") else 300)
    (tmp_path / "redis").mkdir()
    server = RedisServer(find_server(), tmp_path / "redis", tmp_path / "redis.log")
    await server.start()
    data = tmp_path / "data"
    config = SiteConfig(
        redis_host="127.0.0.1", redis_port=server.port, data_folder=str(data), graph_engine=engine, workload={}
    )
    site = Site(config)
    try:
        async with transactions.open(
            data, redis=("127.0.0.1", server.port), schema=SCHEMA, arm=arm, site=site
        ) as coordinator:
            fuzz = Fuzz(coordinator, site, total, seed=7, changes=True)
            await fuzz.run()
            await coordinator._stores.redis.execute("CONFIG", "SET", "maxmemory", "0")
            unresolved = [one.token for one in fuzz.tried if one.end in ("in doubt", "cancelled")]
            resolved = await coordinator.recover(unresolved)
            assert set(resolved) == set(unresolved)
            rows = await coordinator._stores.sqlite.fetch("SELECT token, csn FROM commits")
            numbers = dict(rows)
            assert {token for token, outcome in resolved.items() if outcome == "committed"} == set(unresolved) & set(
                numbers
            )
            last = max(numbers.values())
            for applier in coordinator._appliers:
                await asyncio.wait_for(applier.wait_for(last), 60)
            model = Model()
            wrong = list(divergences(fuzz.tried, numbers, last, model))
            print("\n".join(wrong))
            assert wrong == []
            await _compare(coordinator, model)
            assert await coordinator._log.refusals("graph") == {}
            ends = Counter(one.end for one in fuzz.tried)
            print(
                f"{engine}, {arm}: {dict(ends)}, {fuzz.kills} kills, {site.children - 1 - fuzz.kills} crashes of the engine"
            )
            assert ends["committed"] > total / 4
            assert site.children > fuzz.kills > 0
    finally:
        await server.stop()


async def _compare(coordinator: Any, model: Model) -> None:
    """Read the stores themselves, once the last restart of the graph is over."""
    graph, redis, sqlite = coordinator._stores.graph, coordinator._stores.redis, coordinator._stores.sqlite

    async def ready() -> bool:
        return graph.state is not None

    await until(ready, 30)
    nodes = await graph.query("MATCH (n:Node) RETURN n.id, n.v")
    links = await graph.query("MATCH (x:Node)-[l:LINK]->(y:Node) RETURN l.id, x.id, y.id")
    assert dict(nodes) == model.nodes
    assert sorted((name, source, target) for name, source, target in links) == sorted(
        (name, *ends) for name, ends in model.links.items()
    )
    assert {n: (g, v) for n, g, v in await sqlite.fetch("SELECT id, grp, value FROM items")} == model.items
    names = [key for key in await redis.execute("KEYS", "*") if not key.startswith("chaos:")]
    assert sorted(names) == sorted([*model.strings, *model.lists, *model.sets, *model.hashes])
    for key in model.strings:
        assert await redis.execute("GET", key) == model.strings[key]
    for key in model.lists:
        assert await redis.execute("LRANGE", key, 0, -1) == model.lists[key]
    for key in model.sets:
        assert set(await redis.execute("SMEMBERS", key)) == model.sets[key]
