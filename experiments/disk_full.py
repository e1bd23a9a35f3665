"""The disk fills up under SQLite, and then a sync of its log fails."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="disk-full",
    hypothesis="A full disk under SQLite rolls transactions back, and a failed sync leaves none undecided for good.",
    tags=("disk", "sqlite"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=7, deadline="1s"),
    schedule=(
        # Nothing can be committed while the disk is full, so no acknowledgement is demanded during it.
        when.at("1s").do(faults.DiskFull("sqlite")).heal(after="1500ms"),
        # An error of the commit's own sync: the row may be there after a crash, so the outcome is in doubt.
        when.at("4s").do(faults.DiskError("sqlite", error="EIO", call="sync", path="*-wal", nth=3)).heal(after="1s"),
    ),
)
