"""The reply of every step of a commit in Redis is lost, each in turn: was it done, or not?

The coordinator is ours, with one part exchanged: it brings Redis up to date by WATCH, MULTI and EXEC instead of a
script, so that a commit has steps to lose. Each rule is armed while the applier stands at the beginning of a commit,
so it hits the commit's own frame and no other: no clock is involved.
"""

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, WatchError

from chaos import Experiment, faults, probes, stores, systems, when, workload
from chaos.errors import StoreInDoubt, StoreUnavailable
from chaos.transactions.commit_log import RedoRow
from chaos.transactions.redo import RedoSystem
from chaos.transactions.secondaries import APPLIED_KEY, RedisSecondary
from chaos.transactions.system import Site

STEPS = (
    ("WATCH", None),  # before anything was written
    ("GET", APPLIED_KEY),  # the question where Redis is
    ("MULTI", None),  # from here on all is sent at once, so EXEC is on its way already
    ("INCRBY", "balance:*"),  # the first command that is queued
    ("SET", APPLIED_KEY),  # the last one
    ("EXEC", None),  # the commit itself: it has happened, and nobody says so
)
SPACING = 8
PATIENT = (probes.PingAll("10s"), probes.Commits(within="20s"))


class ByExec(RedisSecondary):
    """Applies rows by an optimistic transaction; what was applied already is seen by the number in Redis."""

    client: Redis

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Apply each of `rows` at most once. Raises StoreInDoubt whenever anything was sent and not answered."""
        try:
            async with self.client.pipeline(transaction=True) as pipe:
                await pipe.watch(APPLIED_KEY)
                applied = int(await pipe.get(APPLIED_KEY) or -1)
                missing = [row for row in rows if row.csn > applied]
                if not missing:
                    return True
                if applied < missing[0].previous:
                    return False
                pipe.multi()
                for row in missing:
                    for command in row.writes.redis:
                        pipe.execute_command(*command)
                pipe.set(APPLIED_KEY, rows[-1].csn)
                await pipe.execute()
        except WatchError as error:
            raise StoreUnavailable(self.name, "somebody else applied something") from error
        except (RedisError, OSError) as error:
            raise StoreInDoubt(self.name, f"{type(error).__name__}: {error}") from error
        return True


class ExecSystem(RedoSystem):
    """Our coordinator with `ByExec` in it."""

    redis_secondary = ByExec

    async def open(self, site: Site) -> None:
        """Make the client that `ByExec` uses: one that repeats nothing by itself."""
        ByExec.client = Redis(
            host=site.config.redis_host,
            port=site.config.redis_port,
            socket_timeout=0.5,
            retry=Retry(NoBackoff(), 0),
        )
        await super().open(site)


def lost(number: int, command: str, key: str | None) -> object:
    """Return the rule that loses the reply of one step, `SPACING` transactions after the one before."""
    nth = SPACING * (number + 1)
    fault = faults.OnCommand("redis", command, key=key, at="before_reply", do=faults.Cut("rst"))
    return when.phase("redis.applying", nth=nth).do(fault).heal(at=when.phase("acknowledged", nth=nth + 4))


EXPERIMENT = Experiment(
    id="exec-reply-lost",
    hypothesis="Whichever reply of a commit in Redis is lost, the transaction takes effect there exactly once.",
    tags=("network", "redis", "wire"),
    system=systems.Own("ExecSystem"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    steady_state=PATIENT,
    workload=workload.Transfers(accounts=16, clients=2, rate=80, seconds=6, deadline="2s"),
    schedule=tuple(lost(number, *step) for number, step in enumerate(STEPS)),
)
