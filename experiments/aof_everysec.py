"""A server that syncs once a second acknowledges what a power loss takes back; a commit log beside it does not.

Two experiments on the same settings and the same losses of power. In the first Redis alone is the truth. In the second
our coordinator is: it applies anew from SQLite what Redis has lost.
"""

import asyncio
from collections.abc import Mapping, Sequence

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chaos import Experiment, KnownFailure, Recovery, checks, faults, stores, systems, when, workload
from chaos.history.model import StoreImage
from chaos.transactions.system import Committed, InDoubt, Outcome, Request, Resolution, Site


class RedisAlone:
    """Keeps everything in Redis: a transaction is one field of a hash, acknowledged by the server's own reply."""

    async def set_up(self, site: Site) -> None:
        """Nothing to create."""

    async def open(self, site: Site) -> None:
        """Connect, and wait until the server has loaded its log."""
        self.site = site
        self.count = 0
        self.redis = redis.asyncio.Redis(
            host=site.config.redis_host,
            port=site.config.redis_port,
            decode_responses=True,
            socket_timeout=0.5,
            socket_connect_timeout=0.5,
            retry=Retry(NoBackoff(), 0),
        )
        await self.redis.ping()

    async def transact(self, request: Request) -> Outcome:
        """Write the mark; what the server has answered is acknowledged."""
        await self.site.phase("writing", request.token)
        try:
            async with asyncio.timeout(request.deadline_s):
                await self.redis.hset("entries", request.token, request.spec["mark"])
        except (RedisError, OSError, TimeoutError) as error:
            return InDoubt(reason=str(error) or type(error).__name__)
        self.count += 1
        return Committed(csn=self.count)

    async def recover(self, in_doubt: Sequence[str]) -> Mapping[str, Resolution]:
        """Look the tokens up."""
        return {token: "committed" if await self.redis.hexists("entries", token) else "aborted" for token in in_doubt}

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Read the hash. The harness asks for three stores; here they are all the same one."""
        entries = await self.redis.hgetall("entries")
        image = StoreImage(marks={token: [mark] for token, mark in entries.items()})
        return dict.fromkeys(("sqlite", "redis", "graph"), image)

    async def ping(self) -> Mapping[str, bool]:
        """Ask the server."""
        try:
            well = bool(await self.redis.ping())
        except (RedisError, OSError):
            well = False
        return dict.fromkeys(("sqlite", "redis", "graph"), well)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose()


STORES = (stores.SQLite(), stores.Redis(appendfsync="everysec"), stores.Graph())
LOAD = workload.Transfers(accounts=16, clients=4, rate=80, seconds=5, deadline="800ms")
# Names are not at stake here, so the reading that keeps the most of them is used: what is lost are bytes.
LOSS = faults.PowerLoss("ordered")

EXPERIMENTS = (
    Experiment(
        id="aof-everysec-alone",
        hypothesis="What a server that syncs once a second has acknowledged outlives a loss of power.",
        tags=("disk", "power", "redis"),
        system=systems.Own("RedisAlone"),
        stores=STORES,
        workload=LOAD,
        schedule=tuple(when.phase("writing", nth=nth).do(LOSS) for nth in (60, 120, 180)),
        recovery=Recovery(budget="10s", hold="200ms"),
        checks=(checks.Durable(), checks.Landed()),
        expect=KnownFailure(
            check="durable",
            reason="appendfsync everysec answers before the sync, so the last second's writes are gone (redis.conf).",
        ),
    ),
    Experiment(
        id="aof-everysec-coordinated",
        hypothesis="What the coordinator has acknowledged outlives a loss of power that Redis alone does not.",
        tags=("disk", "power", "redis"),
        stores=STORES,
        workload=LOAD,
        schedule=tuple(when.phase("sqlite.committed", nth=nth).do(LOSS) for nth in (40, 80)),
    ),
)
