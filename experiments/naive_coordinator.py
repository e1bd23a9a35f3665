"""The control: a coordinator that commits each store in turn must be caught, or this harness has no teeth."""

from chaos import Experiment, Guards, KnownFailure, Recovery, checks, faults, stores, systems, when, workload

EXPERIMENT = Experiment(
    id="naive-coordinator",
    hypothesis="Committing SQLite, Redis and the graph in turn, with compensation, keeps transactions whole.",
    tags=("control", "process"),
    system=systems.Naive(),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=5, deadline="800ms"),
    schedule=(
        when.phase("sqlite.committed", nth=60).do(faults.Kill("worker")),
        when.phase("redis.applied", nth=120).do(faults.Kill("worker")),
        # Counted in commits like the others: a moment in time could fall into the restart of the worker.
        when.phase("redis.applied", nth=150).do(faults.Partition("redis", side="reply")).heal(after="500ms"),
    ),
    # It keeps no log, so nothing ever brings the stores back together: no need to wait 10 s for that.
    recovery=Recovery(budget="3s", hold="500ms"),
    guards=Guards(before=1, during=0, after=1),
    checks=(checks.Atomic(), checks.Landed()),
    expect=KnownFailure(
        check="atomic",
        reason="Nothing remembers, across a crash between two stores' commits, that the second one is still owed.",
    ),
)
