"""Readers take every connection to Redis that they can get, and keep them: commits must go on all the same.

For two seconds a reporting job holds all connections of the pool. A transaction that wants to read from Redis waits,
and is refused in time. The applier has connections of its own share, so Redis does not fall behind the commit log. In
the control nothing is reserved: what was acknowledged stays out of Redis for as long as the readers like.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from chaos import Experiment, KnownFailure, checks, faults, stores, systems, when, workload
from chaos.errors import StoreError
from chaos.history.model import StoreImage
from chaos.stores.redis import RedisStore
from chaos.transactions.commit_log import RedoRow
from chaos.transactions.redo import RedoSystem
from chaos.transactions.secondaries import RedisSecondary
from chaos.transactions.system import Site

HOGS = 16
"""More than there are connections, so that some wait, and take what comes back at once."""

BEGINS_S, LASTS_S = 2.5, 2.0
LAG_MAX_S = 1.0


class Timed(RedisSecondary):
    """Follows the log, and tells how long Redis was behind each batch."""

    def __init__(self, system: "CrowdedSystem", *arguments: object) -> None:
        """Tell `system`."""
        super().__init__(*arguments)  # type: ignore[arg-type]  # as RedisSecondary takes them
        self._system = system
        self._tried_s: dict[int, float] = {}

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Apply, and note the time since the first attempt with the first of these rows."""
        began_s = self._tried_s.setdefault(rows[0].csn, time.monotonic())
        done = await super().apply(rows)
        self._tried_s.clear()
        self._system.note(rows[0], time.monotonic() - began_s)
        return done


class CrowdedSystem(RedoSystem):
    """Our coordinator beside a job that takes all connections to Redis for a while."""

    def __init__(self) -> None:
        """Nothing was behind so far."""
        super().__init__()
        self.redis_secondary = partial(Timed, self)  # type: ignore[assignment]  # called like the class
        self._behind: list[str] = []
        self._hogs: asyncio.Task[None] | None = None

    async def open(self, site: Site) -> None:
        """Open everything, and let the job come later."""
        await super().open(site)
        assert self._stores is not None
        self._hogs = asyncio.create_task(self._crowd(self._stores.redis))

    def note(self, row: RedoRow, seconds: float) -> None:
        """Remember a commit that was out of Redis for too long."""
        if seconds > LAG_MAX_S:
            self._behind.append(f"commit {row.csn} was tried for {seconds:.1f} s until Redis had it")

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Add what was behind to the image of Redis."""
        images = dict(await super().read_back())
        images["redis"] = msgspec.structs.replace(images["redis"], broken=list(self._behind))
        return images

    async def close(self) -> None:
        """Send the job away, then close."""
        if self._hogs is not None:
            self._hogs.cancel()
            await asyncio.gather(self._hogs, return_exceptions=True)
        await super().close()

    async def _crowd(self, redis: RedisStore) -> None:
        await asyncio.sleep(BEGINS_S)
        end_s = time.monotonic() + LASTS_S
        await asyncio.gather(*(self._hog(redis, end_s) for _ in range(HOGS)))

    async def _hog(self, redis: RedisStore, end_s: float) -> None:
        while time.monotonic() < end_s:
            try:
                await redis.execute("BLPOP", "never", "0.4")  # holds its connection, below the client's own timeout
            except StoreError:
                await asyncio.sleep(0.01)


def experiment(name: str, hypothesis: str, pool: stores.Pool, expect: KnownFailure | None = None) -> Experiment:
    """Return one of the two; they differ in what is reserved."""
    return Experiment(
        id=name,
        hypothesis=hypothesis,
        tags=("pool", "redis", *(("control",) if expect else ())),
        system=systems.Own("CrowdedSystem"),
        stores=(stores.SQLite(), stores.Redis(pool=pool), stores.Graph()),
        workload=workload.Transfers(accounts=16, clients=4, rate=40, seconds=6, deadline="1s"),
        schedule=(when.at("500ms").do(faults.Disconnect("redis", how="rst")),),
        checks=(checks.Atomic(), checks.Durable(), checks.ExactlyOnce(), checks.Invariants()),
        expect=expect,
    )


EXPERIMENTS = (
    experiment(
        "pool-exhaustion",
        "With all connections of readers taken, some transactions are refused, and what commits reaches Redis at once.",
        stores.Pool(max_size=6, reserved=2, acquire_timeout="300ms"),
    ),
    experiment(
        "pool-exhaustion-nothing-reserved",
        "The applier may share its connections with readers.",
        stores.Pool(max_size=6, acquire_timeout="300ms"),
        KnownFailure(
            check="invariants",
            reason="The applier waits for a connection like everybody else, and Redis stays behind the commit log.",
        ),
    ),
)
