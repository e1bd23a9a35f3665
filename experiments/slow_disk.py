"""The disk is slow: to sync, with a tail, by the byte, and once longer than a transaction may take."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="slow-disk",
    hypothesis="A disk that is slow to write or sync delays transactions, and none called aborted commits later.",
    tags=("disk",),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=8, deadline="800ms"),
    schedule=(
        # Every commit waits for two of these; one in ten waits a good deal longer.
        when.at("500ms")
        .do(faults.DiskDelay("sqlite", "40ms", spread="tail", spread_by="10ms"), faults.DiskDelay("redis", "30ms"))
        .heal(after="1500ms"),
        # A commit writes some 20 KB, so this makes it take a quarter of a second.
        when.at("3s").do(faults.DiskDelay("sqlite", 0, call="write", bytes_per_s=80_000)).heal(after="1s"),
        when.at("4500ms").do(faults.DiskDelay("graph", "100ms", call=("write", "sync"))).heal(after="1s"),
        # The deadline comes during COMMIT: the caller is told that nobody knows, and the commit happens.
        when.at("6s").do(faults.DiskDelay("sqlite", "1200ms", path="*-wal", count=1)).never(),
    ),
)
