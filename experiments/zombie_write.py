"""A write is delivered long after its sender gave it up and did it again: the zombie.

The proxy holds one commit's request back. The client's patience ends, it connects anew and commits once more, and
others go on. Then the fault is healed, and the old request arrives. Every step follows from the one before; no
time is involved but the client's own patience.
"""

from chaos import Experiment, KnownFailure, Recovery, checks, faults, probes, stores, systems, when, workload
from chaos.transactions.redo import RedoSystem
from chaos.transactions.secondaries import APPLY_UNCHECKED, RedisSecondary

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())
PATIENT = (probes.PingAll("10s"), probes.Commits(within="20s"))
LOAD = workload.Transfers(accounts=16, clients=2, rate=60, seconds=4, deadline="2s")
SCHEDULE = (
    when.phase("redis.applying", nth=20)
    .do(faults.OnCommand("redis", "EVAL*", key="chaos:applied", do=faults.Hold()))
    .heal(at=when.phase("acknowledged", nth=40)),
)


class Trusting(RedisSecondary):
    """Applies whatever it is sent, whenever that arrives."""

    script = APPLY_UNCHECKED


class TrustingSystem(RedoSystem):
    """The control: our coordinator without the number that tells an old request from a new one."""

    redis_secondary = Trusting


EXPERIMENTS = (
    Experiment(
        id="zombie-write",
        hypothesis="A commit that arrives after it was given up and repeated changes nothing any more.",
        tags=("network", "redis", "wire"),
        stores=STORES,
        steady_state=PATIENT,
        workload=LOAD,
        schedule=SCHEDULE,
    ),
    Experiment(
        id="zombie-write-trusted",
        hypothesis="A server that applies what arrives, whenever it arrives, applies it once.",
        tags=("control", "network", "redis", "wire"),
        system=systems.Own("TrustingSystem"),
        stores=STORES,
        steady_state=PATIENT,
        workload=LOAD,
        schedule=SCHEDULE,
        recovery=Recovery(budget="3s", hold="500ms"),
        checks=(checks.ExactlyOnce(), checks.Durable(), checks.Landed()),
        expect=KnownFailure(
            check="exactly_once",
            reason="Nothing in the request says that it is old, so the late one is applied a second time.",
        ),
    ),
)
