"""A cache that the transactions themselves keep in Redis beside their rows in SQLite, read by whoever comes.

The reader who finds nothing reads the row and puts it there; the writer takes the entry away. Redis is cut off and
killed meanwhile, and comes back. Nobody may be told a row that had been replaced before he asked, least of all the one
who had replaced it himself. In the control, a reader puts back what a writer has just taken away.
"""

from chaos import Experiment, Guards, KnownFailure, Recovery, checks, faults, stores, systems, when, workload

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())

EXPERIMENTS = (
    Experiment(
        id="cache-aside",
        hypothesis="A cache filled within transactions is never older than what was acknowledged before it was asked.",
        tags=("cache", "redis"),
        stores=STORES,
        workload=workload.Cached(keys=24, skew=1.0, clients=6, rate=80, seconds=8, deadline="2s"),
        schedule=(
            when.phase("redis.applying", nth=80).do(faults.Partition("redis", side="reply")).heal(after="1s"),
            when.phase("redis.applied", nth=200).do(faults.Kill("redis")),
        ),
        guards=Guards(before=1, during=0, after=1),  # every transaction needs Redis, and waits
        checks=(*checks.standard(), checks.Invariants(), checks.StrictSerializable()),
    ),
    Experiment(
        id="cache-aside-naive",
        hypothesis="Taking the entry away after each write keeps a cache right.",
        tags=("cache", "control"),
        system=systems.Naive(),
        stores=STORES,
        workload=workload.Cached(keys=3, writes=0.5, clients=12, rate=300, seconds=5, deadline="3s"),
        recovery=Recovery(budget="3s", hold="500ms"),
        guards=Guards(before=0, during=0, after=0),
        checks=(checks.Atomic(), checks.StrictSerializable()),
        expect=KnownFailure(
            check="strict_serializable",
            reason="A reader that had missed fills with what a writer has replaced and taken away meanwhile.",
        ),
    ),
)
