"""Your own coordinator under test: a small outbox over SQLite, Redis and Kuzu, written without our stores.

The class below is everything the harness asks of a system (`chaos.transactions.system.System`). It runs in a
worker process that may be killed at any moment; `recover` is what makes up for that.
"""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence

import kuzu
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chaos import Experiment, Guards, checks, faults, stores, systems, when, workload
from chaos.history.model import StoreImage
from chaos.transactions.system import Committed, InDoubt, Outcome, Request, Resolution, Site


class Outbox:
    """A commit in SQLite carries an outbox row; delivery to Redis and the graph repeats until both have it."""

    async def set_up(self, site: Site) -> None:
        """Create the tables; Redis needs no schema."""
        with self._sqlite(site) as database:
            database.execute("CREATE TABLE entries (position INTEGER PRIMARY KEY, token TEXT UNIQUE, mark TEXT)")
        _, graph = self._graph(site)
        graph.execute("CREATE NODE TABLE Entry (token STRING, mark STRING, PRIMARY KEY (token))")

    async def open(self, site: Site) -> None:
        """Connect to the three stores."""
        self.site = site
        self.lock = asyncio.Lock()
        self.sqlite = self._sqlite(site)
        self.graph_database, self.graph = self._graph(site)
        self.redis = redis.asyncio.Redis(
            host=site.config.redis_host,
            port=site.config.redis_port,
            decode_responses=True,
            socket_timeout=0.3,
            socket_connect_timeout=0.3,
            retry=Retry(NoBackoff(), 0),  # the client's own default repeats a lost EXEC in silence
        )
        self.delivered = 0

    async def transact(self, request: Request) -> Outcome:
        """Commit the entry with its place in the outbox, then deliver as far as the deadline allows."""
        deadline = asyncio.get_running_loop().time() + request.deadline_s  # one for both parts
        try:
            async with asyncio.timeout_at(deadline), self.lock:
                position = self._commit(request)
                await self.site.phase("outbox.committed", request.token, "sqlite")
        except TimeoutError:
            return InDoubt(reason="the deadline passed before the commit")
        try:
            async with asyncio.timeout_at(deadline), self.lock:
                await self._deliver()
        except (RedisError, OSError, TimeoutError):
            return Committed(csn=position, applied=False)
        return Committed(csn=position)

    async def recover(self, in_doubt: Sequence[str]) -> Mapping[str, Resolution]:
        """Deliver what is owed, and look up every token in doubt where the commits are."""
        async with self.lock:
            await self._deliver()
            known = {token for (token,) in self.sqlite.execute("SELECT token FROM entries")}
        return {token: "committed" if token in known else "aborted" for token in in_doubt}

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Read every store itself."""
        rows = self.sqlite.execute("SELECT token, mark FROM entries").fetchall()
        found = self.graph.execute("MATCH (e:Entry) RETURN e.token, e.mark")
        nodes = []
        while found.has_next():
            nodes.append(found.get_next())
        images = {"sqlite": rows, "redis": (await self.redis.hgetall("entries")).items(), "graph": nodes}
        return {name: StoreImage(marks={token: [mark] for token, mark in pairs}) for name, pairs in images.items()}

    async def ping(self) -> Mapping[str, bool]:
        """Ask each store something trivial."""
        try:
            redis_answers = bool(await self.redis.ping())
        except (RedisError, OSError):
            redis_answers = False
        return {"sqlite": True, "redis": redis_answers, "graph": self.graph.execute("RETURN 1").has_next()}

    async def close(self) -> None:
        """Let go of everything."""
        await self.redis.aclose()
        self.graph.close()
        self.graph_database.close()
        self.sqlite.close()

    def _commit(self, request: Request) -> int:
        cursor = self.sqlite.execute(
            "INSERT INTO entries (token, mark) VALUES (?, ?)", (request.token, request.spec["mark"])
        )
        return int(cursor.lastrowid or 0)

    async def _deliver(self) -> None:
        """Bring Redis and the graph up to date. Both writes may be repeated without harm."""
        owed = self.sqlite.execute(
            "SELECT position, token, mark FROM entries WHERE position > ? ORDER BY position", (self.delivered,)
        ).fetchall()
        for position, token, mark in owed:
            await self.redis.hset("entries", token, mark)
            self.graph.execute(
                "MERGE (e:Entry {token: $token}) ON CREATE SET e.mark = $mark", {"token": token, "mark": mark}
            )
            self.delivered = position

    @staticmethod
    def _sqlite(site: Site) -> sqlite3.Connection:
        database = sqlite3.connect(site.config.folder("sqlite") / "main.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        return database

    @staticmethod
    def _graph(site: Site) -> tuple[kuzu.Database, kuzu.Connection]:
        path = str(site.config.folder("graph") / "graph.db")
        database = kuzu.Database(path, buffer_pool_size=64 * 2**20, max_db_size=2**30)
        return database, kuzu.Connection(database, num_threads=1)


EXPERIMENT = Experiment(
    id="own-system",
    hypothesis="The outbox in this file keeps every transaction whole through a crash and a partition.",
    tags=("example",),
    system=systems.Own("Outbox"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=8, clients=2, rate=30, seconds=6, deadline="1s"),
    schedule=(
        when.phase("outbox.committed", nth=30).do(faults.Kill("worker")),
        # Counted in commits and not in time, so that the restarted worker is at work again, however slow the machine.
        when.phase("outbox.committed", nth=45).do(faults.Partition("redis")).heal(after="1s"),
    ),
    guards=Guards(before=1, during=0, after=1),
    # All but `synced`, which looks for our own coordinator's phases.
    checks=tuple(check for check in checks.standard() if check.name != "synced"),
)
