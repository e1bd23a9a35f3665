"""Bits of a file are wrong when they are read; the disk has the right ones.

Two experiments. Where a store checks what it reads as it opens, rot costs time: it does not open until reads are good
again. Where the check also marks the end of a log, rot costs what lies behind: SQLite cannot tell a rotten record in
the middle of its log from a torn one at the end. The coordinator can, as long as Redis remembers, and does not go on.
"""

from chaos import Experiment, Guards, KnownFailure, Recovery, checks, faults, stores, when, workload

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())

EXPERIMENTS = (
    Experiment(
        id="bit-rot-noticed",
        hypothesis="Rot in what a store checks as it opens keeps it closed until the rot is over, and loses nothing.",
        tags=("disk", "redis", "sqlite"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=4, deadline="1s"),
        # So many reads are wrong, however long a new process takes to come to them; then all is as it was.
        schedule=(
            # The base of the server's log is a snapshot with a sum at its end.
            when.phase("redis.applying", nth=20)
            .do(
                faults.BitRot("redis", every_bytes=8, path="appendonlydir/*.base.rdb", count=4),
                faults.KillAtCall("redis", "write", path="appendonlydir/*.aof"),
            )
            .heal(at=when.phase("acknowledged", nth=35)),
            # Both databases begin with a few bytes that say what they are.
            when.phase("graph.applying", nth=45)
            .do(
                faults.BitRot("graph", every_bytes=2, path="graph.db", offsets=(0, 8), count=2),
                faults.KillAtCall("graph", "write"),
            )
            .heal(at=when.phase("acknowledged", nth=60)),
            when.phase("sqlite.committing", nth=75)
            .do(
                faults.BitRot("sqlite", every_bytes=4, path="main.db", offsets=(0, 16), count=3),
                faults.KillAtCall("sqlite", "write", path="*-wal"),
            )
            .heal(at=when.phase("recovering", nth=1)),
        ),
        # Without SQLite nothing is acknowledged.
        guards=Guards(before=1, during=0, after=1),
    ),
    Experiment(
        id="bit-rot-commit-log",
        hypothesis="What SQLite has committed survives that its log is read once with wrong bits.",
        tags=("control", "disk", "sqlite"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=3, deadline="1s"),
        schedule=(
            when.phase("sqlite.committing", nth=60)
            .do(
                faults.BitRot("sqlite", every_bytes=4096, path="*-wal"),
                faults.KillAtCall("sqlite", "sync", path="*-wal", after=True),
            )
            # Until the new process has read the log.
            .heal(at=when.phase("recovering", nth=1)),
        ),
        recovery=Recovery(budget="1s", hold="200ms"),
        # Redis has commits that the log lacks: the coordinator says so, and acknowledges nothing any more.
        guards=Guards(before=1, during=0, after=0),
        checks=(checks.Durable(), checks.Landed()),
        expect=KnownFailure(
            check="durable",
            reason="SQLite's log ends, by definition, before the first frame whose sum is wrong (fileformat2.html).",
        ),
    ),
)
