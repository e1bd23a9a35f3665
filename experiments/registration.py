"""Users register while stores and coordinator fail: an identity, a profile with friends, a session, or none of it.

Left alone, every registration is completed, or refused because the address is in use. Under faults at least four of
five are completed or have a decided end, and no user is ever half there.
"""

from chaos import Experiment, Guards, checks, faults, stores, when, workload

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())
CHECKS = (*checks.standard(), checks.Invariants(), checks.Completed())

EXPERIMENTS = (
    Experiment(
        id="registration",
        hypothesis="With nothing in the way every registration is completed in all three stores.",
        tags=("registration",),
        stores=STORES,
        workload=workload.Registration(clients=8, rate=80, seconds=4, deadline="2s"),
        checks=CHECKS,
    ),
    Experiment(
        id="registration-under-faults",
        hypothesis="Whatever fails, a user is registered everywhere or nowhere, and four of five hear which.",
        tags=("network", "process", "registration"),
        stores=STORES,
        workload=workload.Registration(clients=8, rate=60, seconds=12, deadline="1s"),
        schedule=(
            when.at("1s").do(faults.Partition("redis")).heal(after="800ms"),
            when.phase("redis.applying", nth=60).do(faults.Partition("redis", side="reply")).heal(after="800ms"),
            when.phase("sqlite.committed", nth=100).do(faults.Kill("worker")),
            when.phase("graph.applying", nth=140).do(faults.Kill("graph")),
            when.phase("redis.applied", nth=180).do(faults.LoseData("redis")).heal(after="500ms"),
            when.phase("sqlite.committing", nth=220)
            .do(faults.DiskError("sqlite", error="EIO", call="sync", path="*-wal"))
            .heal(after="500ms"),
        ),
        guards=Guards(before=1, during=0, after=1),
        checks=CHECKS,
    ),
)
