"""Users register while stores and coordinator fail: an identity, a profile with friends, a session, or none of it.

Left alone, every registration is completed, or refused because the address is in use. Under faults at least four of
five are completed or have a decided end, and no user is ever half there.
"""

from chaos import Experiment, Guards, Limits, checks, faults, stores, when, workload

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
        workload=workload.Registration(clients=8, rate=60, seconds=8, deadline="1s"),
        schedule=(
            when.at("1s").do(faults.Partition("redis")).heal(after="800ms"),
            when.next("redis.applying", after=20).do(faults.Partition("redis", side="reply")).heal(after="800ms"),
            when.next("sqlite.committed", after=20).do(faults.Kill("worker")),
            when.next("graph.applying", after=20).do(faults.Kill("graph")),
            when.next("redis.applied", after=20).do(faults.LoseData("redis")).heal(after="500ms"),
            when.next("sqlite.committing", after=20)
            .do(faults.DiskError("sqlite", error="EIO", call="sync", path="*-wal"))
            .heal(at=when.next("acknowledged", after=20)),
        ),
        guards=Guards(before=1, during=0, after=1),
        limits=Limits(wall="180s", overtime="90s"),
        checks=CHECKS,
    ),
)
