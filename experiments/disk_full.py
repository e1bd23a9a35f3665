"""The disk fills up under SQLite until somebody frees it, or fills up and is tidied up while the stores go on.

In the first experiment the fault ends; in the second it goes on, and there is room again all the same: what was
written once may be written after all, by stores that were told that it cannot.
"""

from chaos import Experiment, faults, stores, when, workload

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())
AMPLE = 2**40
"""Bytes freed: more than the rest of the load can use."""

EXPERIMENTS = (
    Experiment(
        id="disk-full",
        hypothesis="A full disk under SQLite rolls transactions back, and a failed sync leaves none in doubt for good.",
        tags=("disk", "sqlite"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=5, deadline="1s"),
        schedule=(
            # Nothing can be committed while the disk is full, so no acknowledgement is demanded during it.
            when.at("1s").do(faults.DiskFull("sqlite")).heal(after="1s"),
            # An error of the commit's own sync: the row may be there after a crash, so the outcome is in doubt.
            when.at("3s")
            .do(faults.DiskError("sqlite", error="EIO", call="sync", path="*-wal", nth=3))
            .heal(after="1s"),
        ),
    ),
    Experiment(
        id="disk-full-freed",
        hypothesis="Each store that meets a full disk takes up its work when there is room again, with nothing torn.",
        tags=("disk", "graph", "redis", "sqlite"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=4, deadline="1s"),
        schedule=(
            # The edge lies within a commit: a few pages fit. Twelve failures later there is room.
            when.phase("sqlite.committing", nth=20)
            .do(faults.DiskFull("sqlite", budget_bytes=10_000, freed_after=12, freed_bytes=AMPLE))
            .heal(at=when.phase("acknowledged", nth=50)),
            # The server refuses writes until its log can be written, and tries that again by itself.
            when.phase("redis.applying", nth=60)
            .do(faults.DiskFull("redis", budget_bytes=700, freed_after=3, freed_bytes=AMPLE))
            .heal(at=when.phase("acknowledged", nth=90)),
            # An engine that fails at COMMIT is started anew, which writes too.
            when.phase("graph.applying", nth=100)
            .do(faults.DiskFull("graph", budget_bytes=300, freed_after=2, freed_bytes=AMPLE))
            .heal(at=when.phase("acknowledged", nth=130)),
        ),
    ),
)
