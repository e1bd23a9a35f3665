"""A plain `Redis(host=...)` client commits twice in silence, and this experiment expects to see it.

Since redis-py 6 a client that is made from a host name repeats a command, and a whole MULTI/EXEC pipeline, when the
connection breaks: three times, or ten in version 8. A transaction is no exception. When only the reply of EXEC is
lost, the server has committed; the client connects anew and sends MULTI ... EXEC once more, and tells its caller of
one success. Nobody gets an error, no log has a line about it.

`chaos show RUN` prints the frames: two requests EXEC for one transaction, and one reply that was lost. The way out
is `Redis(..., retry=Retry(NoBackoff(), 0))` and a commit that can be recognised when it is repeated.
"""

from typing import Any

from redis.asyncio import Redis

from chaos import Experiment, Guards, KnownFailure, Recovery, checks, faults, probes, stores, systems, when, workload
from chaos.transactions.naive import NaiveSystem
from chaos.transactions.system import Site
from chaos.workload.base import Writes


class PlainClientSystem(NaiveSystem):
    """Commits in each store in turn, in Redis by a transaction of a client with all its defaults."""

    client: Any = None

    async def set_up(self, site: Site) -> None:
        """Connect before the first rows are written."""
        self.client = Redis(host=site.config.redis_host, port=site.config.redis_port)
        await super().set_up(site)

    async def open(self, site: Site) -> None:
        """Connect as everybody does."""
        self.client = Redis(host=site.config.redis_host, port=site.config.redis_port)
        await super().open(site)

    async def close(self) -> None:
        """Let go of the client too."""
        await super().close()
        if self.client is not None:
            await self.client.aclose()

    async def _commit_redis(self, writes: Writes) -> None:
        async with self.client.pipeline(transaction=True) as pipe:
            for command in writes.redis:
                pipe.execute_command(*command)
            await pipe.execute()


EXPERIMENT = Experiment(
    id="redis-client-retries",
    hypothesis="A Redis client with its default settings commits a transaction once when it reports one success.",
    tags=("control", "network", "redis", "wire"),
    system=systems.Own("PlainClientSystem"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    steady_state=(probes.PingAll("10s"), probes.Commits(within="20s")),
    # The client may wait a second and more between its attempts, so the deadline leaves it room.
    workload=workload.Transfers(accounts=16, clients=2, rate=60, seconds=4, deadline="8s", reads_redis=False),
    schedule=(
        when.phase("redis.applying", nth=20)
        .do(faults.OnCommand("redis", "EXEC", at="before_reply", do=faults.Cut("rst")))
        .heal(at=when.phase("redis.applied", nth=40)),
    ),
    # It keeps no log, so nothing ever brings the stores back together: no need to wait 10 s for that.
    recovery=Recovery(budget="3s", hold="500ms"),
    guards=Guards(before=1, during=1, after=1),
    checks=(checks.ExactlyOnce(), checks.Durable(), checks.Landed()),
    expect=KnownFailure(
        check="exactly_once",
        reason="The client repeats MULTI and EXEC by itself when EXEC's reply is lost, and reports one success.",
    ),
)
