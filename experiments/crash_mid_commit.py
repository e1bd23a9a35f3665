"""The coordinator is killed at every phase of a commit, and once more while it recovers."""

from chaos import Experiment, faults, stores, when, workload

PHASES = (
    "begin",
    "buffered",
    "queued",
    "sqlite.begun",
    "sqlite.committing",
    "sqlite.committed",
    "redis.applying",
    "redis.applied",
    "graph.applying",
    "graph.applied",
    "applied",
    "acknowledged",
)
APART = 25
"""Transactions between two kills, so that each one meets a system that is well."""

EXPERIMENT = Experiment(
    id="crash-mid-commit",
    hypothesis="A coordinator killed at any phase of a commit leaves every transaction whole or absent.",
    tags=("process", "crash"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=4, rate=80, seconds=14, deadline="1s"),
    schedule=(
        *(
            when.phase(phase, nth=APART * number).do(faults.Kill("worker"))
            for number, phase in enumerate(PHASES, start=1)
        ),
        # The first recovery of the run is the one after the first kill: it is killed too.
        when.phase("recovering", nth=1).do(faults.Kill("worker")),
    ),
)
