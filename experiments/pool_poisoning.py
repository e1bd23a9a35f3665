"""A reply comes after its reader has given up: whoever uses the connection next must not take it for an answer.

Two systems face it. Ours closes a connection on which anything is still due. The control gives it back for the next
request, as pools have done: from then on every answer belongs to the question before. Nothing shows, until the server
refuses a write: the refusal is told to the wrong transaction, and the right one is acknowledged.
"""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from redis.asyncio import Connection

from chaos import Experiment, Guards, KnownFailure, Recovery, checks, faults, probes, stores, systems, when, workload
from chaos.errors import StoreInDoubt, StoreUnavailable
from chaos.history.model import StoreImage
from chaos.transactions.naive import NaiveSystem
from chaos.transactions.redo import ping, read_back
from chaos.transactions.system import Site

PATIENCE_S = 0.2
PATIENT = (probes.PingAll("10s"), probes.Commits(within="20s"))
STORES = (stores.SQLite(), stores.Redis(), stores.Graph())


class CarelessRedis:
    """One connection that is kept whatever happens on it."""

    def __init__(self, host: str, port: int) -> None:
        """Nothing is connected yet."""
        self._connection = Connection(host=host, port=port, decode_responses=True, protocol=2)
        self._lock = asyncio.Lock()

    async def execute(self, *arguments: Any) -> Any:
        """Send a command, and wait for a reply; which one, nobody asks."""
        async with self._lock:
            await self._connection.connect()
            await self._connection.send_command(*arguments, check_health=False)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await self._connection.read_response(disconnect_on_error=False)
            except TimeoutError as error:
                raise StoreInDoubt("redis", "no reply in time") from error
            except Exception as error:
                raise StoreUnavailable("redis", f"{arguments[0]} was refused: {error}") from error

    async def close(self) -> None:
        """Hang up."""
        await self._connection.disconnect()


class CarelessSystem(NaiveSystem):
    """Commits in each store in turn, in Redis by `CarelessRedis`; what it reads back it reads with care."""

    async def open(self, site: Site) -> None:
        """Connect, twice to Redis."""
        await super().open(site)
        assert self._stores is not None
        self._careful: Any = SimpleNamespace(
            sqlite=self._stores.sqlite, redis=self._stores.redis, graph=self._stores.graph
        )
        self._stores.redis = CarelessRedis(site.config.redis_host, site.config.redis_port)  # type: ignore[assignment]  # the bug

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Read each store itself."""
        return await read_back(self._careful, self._workload)

    async def ping(self) -> Mapping[str, bool]:
        """Ask each store for nothing."""
        return await ping(self._careful)


EXPERIMENTS = (
    Experiment(
        id="pool-poisoning",
        hypothesis="A late reply is never taken for the answer to another request.",
        tags=("network", "redis", "wire"),
        stores=STORES,
        steady_state=PATIENT,
        workload=workload.Transfers(accounts=16, clients=3, rate=60, seconds=6, deadline="2s"),
        schedule=(
            when.phase("acknowledged", nth=15)
            .do(faults.OnCommand("redis", "EVALSHA", key="limits:*", at="before_reply", do=faults.Hold()))
            .heal(at=when.phase("acknowledged", nth=60)),
            when.phase("redis.applying", nth=70)
            .do(faults.OnCommand("redis", "EVALSHA", key="chaos:applied", at="before_reply", do=faults.Hold()))
            .heal(at=when.phase("acknowledged", nth=75)),
        ),
    ),
    Experiment(
        id="pool-poisoning-careless",
        hypothesis="A connection may be used again although a reply is still due on it.",
        tags=("control", "network", "redis", "wire"),
        system=systems.Own("CarelessSystem"),
        stores=STORES,
        steady_state=PATIENT,
        workload=workload.Transfers(accounts=16, clients=1, rate=60, seconds=6, deadline="2s"),
        schedule=(
            # A question about a limit is answered after the patience of its reader: the connection is poisoned.
            when.phase("acknowledged", nth=15)
            .do(faults.OnCommand("redis", "GET", key="limits:*", at="before_reply", do=faults.Hold()))
            .heal(at=when.phase("compensating", nth=1)),
            # Later the server refuses one write, and says so to whoever asks next.
            when.phase("acknowledged", nth=40)
            .do(faults.OnCommand("redis", "RPUSH", do=faults.Forge("-OOM")))
            .heal(at=when.phase("acknowledged", nth=50)),
        ),
        recovery=Recovery(budget="3s", hold="500ms"),
        guards=Guards(before=1, during=0, after=1),
        checks=(checks.Atomic(), checks.Landed()),
        expect=KnownFailure(
            check="atomic",
            reason="Each answer belongs to the question before, so a refused write is acknowledged to its sender.",
        ),
    ),
)
