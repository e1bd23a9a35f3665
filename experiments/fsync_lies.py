"""A disk says that it has synced, and has not; then the power goes.

Two experiments on the same lie. Under Redis and the graph it costs nothing: what they lose is applied anew from
SQLite's log. Under SQLite itself it costs what was acknowledged, and no coordinator can help that: it was told that the
log is safe.
"""

from chaos import Experiment, KnownFailure, Recovery, checks, faults, stores, when, workload

STORES = (stores.SQLite(synchronous="FULL"), stores.Redis(appendfsync="always"), stores.Graph())
LOAD = workload.Transfers(accounts=16, clients=4, rate=60, seconds=4, deadline="1s")

EXPERIMENTS = (
    Experiment(
        id="fsync-lies-followers",
        hypothesis="A disk that lies to Redis and the graph about their syncs loses nothing of a transaction for good.",
        tags=("disk", "power"),
        stores=STORES,
        workload=LOAD,
        schedule=(
            when.at("500ms").do(faults.FsyncLies("redis"), faults.FsyncLies("graph")).never(),
            # In this order: a server whose log was begun under the lie would find an empty list of its files
            # under "ordered", which it refuses and no tool of its own mends.
            when.phase("redis.applied", nth=60).do(faults.PowerLoss("ordered")),
            when.phase("acknowledged", nth=100).do(faults.PowerLoss("posix")),
        ),
    ),
    Experiment(
        id="fsync-lies-commit-log",
        hypothesis="What SQLite has acknowledged outlives a loss of power on a disk that lies about its syncs.",
        tags=("control", "disk", "power", "sqlite"),
        stores=STORES,
        workload=LOAD,
        schedule=(
            when.at("500ms").do(faults.FsyncLies("sqlite")).never(),
            when.phase("acknowledged", nth=80).do(faults.PowerLoss("posix")),
        ),
        # The other stores keep what SQLite has lost, for ever, so nothing is waited for.
        recovery=Recovery(budget="3s", hold="200ms"),
        checks=(checks.Durable(), checks.Landed()),
        expect=KnownFailure(
            check="durable",
            reason="The commit point is a sync; a disk that confirms one it has not made takes commits back.",
        ),
    ),
)
