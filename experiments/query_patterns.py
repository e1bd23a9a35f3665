"""What programs ask the stores for, while the stores are killed and cut off: every answer must be of one moment.

Each transaction runs one query and notes the answer beside its trace; all are played through a model afterwards, in the
order of the commits. The stores may well agree and an answer still be wrong: of a graph that was behind, or that was
being made again, or of a moment that was over at the commit. The control commits whatever it has read, and is caught
without any fault, by its own concurrency.
"""

from chaos import Experiment, Guards, KnownFailure, Recovery, checks, faults, stores, systems, when, workload

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())

EXPERIMENTS = (
    Experiment(
        id="query-patterns",
        hypothesis="Whatever is killed or cut off, a committed query was answered what the commits before it give.",
        tags=("graph", "queries", "redis", "sqlite"),
        stores=STORES,
        workload=workload.Queries(keys=24, skew=0.8, clients=6, rate=60, seconds=8, deadline="2s", arrivals="open"),
        schedule=(
            when.phase("graph.applying", nth=60).do(faults.Kill("graph")),
            when.at("2500ms").do(faults.Partition("redis")).heal(after="1s"),
            when.phase("sqlite.committed", nth=240).do(faults.Kill("worker")),
        ),
        guards=Guards(before=1, during=0, after=1),  # whoever waits for Redis may wait until it is back
        checks=(*checks.standard(), checks.Invariants()),
    ),
    Experiment(
        id="query-patterns-naive",
        hypothesis="A query that was answered rightly is right when its transaction commits.",
        tags=("control", "queries"),
        system=systems.Naive(),
        stores=STORES,
        workload=workload.Queries(keys=4, skew=0.8, clients=12, rate=200, seconds=5, deadline="3s"),
        recovery=Recovery(budget="3s", hold="500ms"),
        guards=Guards(before=0, during=0, after=0),
        checks=(checks.Atomic(), checks.Invariants()),
        expect=KnownFailure(
            check="invariants",
            reason="Nobody looks at the commit whether what was read is still so, and others write meanwhile.",
        ),
    ),
)
