"""The second coordinator: Redis and the graph have each transaction before SQLite decides, so a crash leaves too much.

While a store is away nothing commits, so no work is demanded during those faults. A leader that is paused within a
batch holds SQLite's lock and keeps its successor out; it is paused elsewhere here.
"""

from chaos import Experiment, Guards, KnownFailure, Recovery, checks, faults, probes, stores, systems, when, workload
from chaos.stores.redis import Script
from chaos.transactions.epoxy import EpoxySystem
from chaos.transactions.epoxy_redis import EpoxyRedis
from chaos.transactions.redis_versions import SHIP

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())
AWAY = Guards(before=1, during=0, after=1)
PATIENT = (probes.PingAll("10s"), probes.Commits(within="20s"))
PHASES = (
    "sqlite.begun",
    "redis.applying",
    "redis.applied",
    "graph.applying",
    "graph.applied",
    "sqlite.committing",
    "sqlite.committed",
    "applied",
)


class Believing(EpoxyRedis):
    """Takes nothing back, neither when it recovers nor before the next batch."""

    ship_script = Script(SHIP.text.replace("if not take_back(head.committed)", "if false", 1))
    take_back_script = Script("return {'settled', redis.call('GET', KEYS[1])}")

    async def applied(self) -> int:
        """Return no more than the log has."""
        return min(await super().applied(), self.log.last_csn)


class BelievingSystem(EpoxySystem):
    """The control: the paper's code after a crash, whose list of aborted transactions is gone."""

    redis_secondary = Believing


EXPERIMENTS = (
    Experiment(
        id="epoxy-crash",
        hypothesis="What a coordinator that is killed at any phase of a commit leaves in a store does not stay.",
        tags=("crash", "epoxy", "process"),
        system=systems.Epoxy(),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=80, seconds=18, deadline="2s"),
        schedule=(
            *(when.next(phase, after=8).do(faults.Kill("worker")) for phase in PHASES),
            when.phase("redis.purging", nth=1).do(faults.Kill("worker")),
            when.phase("redis.purged", nth=2).do(faults.Kill("worker")),
        ),
    ),
    Experiment(
        id="epoxy-redis",
        hypothesis="A Redis that is cut off, mute, late or killed before a commit tears no transaction.",
        tags=("epoxy", "network", "redis"),
        system=systems.Epoxy(),
        stores=STORES,
        steady_state=PATIENT,
        guards=AWAY,
        workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=12, deadline="1s"),
        schedule=(
            when.at("1s").do(faults.Partition("redis")).heal(after="1500ms"),
            when.phase("redis.applying", nth=60).do(faults.Partition("redis", side="reply")).heal(after="1500ms"),
            when.random(between=("6s", "7s"))
            .do(faults.Partition("redis", side="request", mode="stall"))
            .heal(after="1500ms"),
            when.at("9s").do(faults.Kill("redis")).heal(after="500ms"),
        ),
    ),
    Experiment(
        id="epoxy-reply-lost",
        hypothesis="A batch whose reply is lost is sent again, and is there once.",
        tags=("epoxy", "network", "redis", "wire"),
        system=systems.Epoxy(),
        stores=STORES,
        steady_state=PATIENT,
        workload=workload.Transfers(accounts=16, clients=2, rate=80, seconds=5, deadline="2s"),
        schedule=tuple(
            when.phase("redis.applying", nth=20 * number)
            .do(faults.OnCommand("redis", "EVAL*", key="chaos:applied", at="before_reply", do=faults.Cut("rst")))
            .heal(at=when.phase("acknowledged", nth=20 * number + 4))
            for number in (1, 2, 3)
        ),
    ),
    Experiment(
        id="epoxy-paused-leader",
        hypothesis="A leader that was paused while another took its place commits and changes nothing any more.",
        tags=("epoxy", "fencing", "process"),
        system=systems.Epoxy(),
        stores=STORES,
        workload=workload.Counters(keys=16, clients=1, rate=20, seconds=8, deadline="5s"),
        guards=AWAY,  # the only client waits for the answer of the one that was paused
        schedule=(
            when.phase("buffered", nth=15).do(faults.Supplant()).heal(at=when.phase("recovered", nth=1)),
            when.phase("sqlite.committed", nth=40).do(faults.Supplant()).heal(at=when.phase("recovered", nth=2)),
        ),
    ),
    Experiment(
        id="epoxy-graph-killed",
        hypothesis="A graph engine that dies before or behind its commit leaves no transaction torn.",
        tags=("epoxy", "graph", "process"),
        system=systems.Epoxy(),
        stores=STORES,
        guards=AWAY,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=8, deadline="1s"),
        schedule=(
            when.phase("graph.applying", nth=20).do(faults.Kill("graph")),
            when.phase("graph.applied", nth=45).do(faults.Kill("graph")),
            when.phase("sqlite.committing", nth=70).do(faults.Pause("graph")).heal(after="1500ms"),
        ),
    ),
    Experiment(
        id="epoxy-without-purge",
        hypothesis="What a crash leaves in Redis does no harm, since nobody has committed it.",
        tags=("control", "crash", "epoxy"),
        system=systems.Own("BelievingSystem"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=4, deadline="2s"),
        schedule=(when.phase("sqlite.committing", nth=40).do(faults.Kill("worker")),),
        recovery=Recovery(budget="3s", hold="500ms"),
        checks=(checks.Atomic(), checks.Durable(), checks.Landed()),
        expect=KnownFailure(
            check="atomic",
            reason="The next commits get the numbers of what was left, so everybody sees it.",
        ),
    ),
)
