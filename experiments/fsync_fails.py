"""A sync fails, and the kernel forgets what it had to write: the disk never gets it, whatever reads show.

Linux reports a failed writeback once and marks the pages clean, so trying the sync again succeeds and proves nothing.
The loss of power at the end tells who has relied on that. The control at the end of this file does.
"""

from chaos import Experiment, KnownFailure, Recovery, checks, faults, stores, systems, when, workload

STORES = (stores.SQLite(synchronous="FULL"), stores.Redis(appendfsync="always"), stores.Graph())
LOAD = workload.Transfers(accounts=16, clients=4, rate=60, seconds=3, deadline="1s")

EXPERIMENTS = (
    Experiment(
        id="fsync-fails",
        hypothesis="A failed sync in any store, whose bytes never reach the disk then, loses nothing acknowledged.",
        tags=("disk", "power"),
        stores=STORES,
        workload=LOAD,
        schedule=(
            when.phase("sqlite.committing", nth=20).do(faults.FsyncFails("sqlite", path="*-wal")).never(),
            when.phase("redis.applying", nth=40).do(faults.FsyncFails("redis", path="appendonlydir/*.aof")).never(),
            when.phase("graph.applying", nth=60).do(faults.FsyncFails("graph")).never(),
            # The log of every store now holds bytes that only the page cache has.
            when.phase("acknowledged", nth=80).do(faults.PowerLoss("ordered")),
            # Another file system: not even reads show the bytes any more.
            when.phase("sqlite.committing", nth=100)
            .do(
                faults.FsyncFails("sqlite", path="*-wal", pages="reverted"),
                faults.FsyncFails("graph", pages="reverted"),
            )
            .heal(at=when.phase("acknowledged", nth=120)),
        ),
    ),
    Experiment(
        id="fsync-fails-tried-again",
        hypothesis="A store that tries a failed sync again until it succeeds keeps what it acknowledges then.",
        tags=("control", "disk", "power"),
        system=systems.Own("_journal.py:TriesAgain"),
        stores=STORES,
        workload=LOAD,
        schedule=(
            when.phase("writing", nth=40).do(faults.FsyncFails("sqlite", path="journal")).never(),
            when.phase("written", nth=80).do(faults.PowerLoss("ordered")),
        ),
        recovery=Recovery(budget="5s", hold="200ms"),
        checks=(checks.Durable(), checks.Landed()),
        expect=KnownFailure(
            check="durable",
            reason="After a failed sync Linux marks the pages clean, so the next sync succeeds without writing them.",
        ),
    ),
)
