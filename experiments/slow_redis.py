"""Redis is slow in every way a network can make it slow: late, narrow, in crumbs, and by loss."""

from chaos import Experiment, faults, stores, when, workload

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())

EXPERIMENTS = (
    Experiment(
        id="slow-redis",
        hypothesis="A Redis behind a slow, narrow way delays transactions and breaks none.",
        tags=("network", "redis"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=40, seconds=9, deadline="2s"),
        schedule=(
            when.at("1s").do(faults.Latency("redis", "50ms", jitter="40ms")).heal(after="1500ms"),
            # A reply and a request are a few hundred bytes: 4 kB a second make them wait for each other.
            when.at("4s").do(faults.Bandwidth("redis", 4_000)).heal(after="1500ms"),
            # Every frame arrives in pieces, so a reader that takes one read for one reply stumbles.
            when.at("7s").do(faults.Slicer("redis", 16, variation_bytes=8, delay="1ms")).heal(after="1s"),
        ),
    ),
    Experiment(
        id="lossy-redis",
        hypothesis="A Redis behind a way that loses packets delays transactions and breaks none.",
        tags=("network", "redis"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=40, seconds=7, deadline="2s"),
        schedule=(
            # TCP hides the loss and shows a stall: a retransmission takes at least 200 ms.
            when.at("1s").do(faults.Loss("redis", 0.05)).heal(after="1500ms"),
            # Most frames are quick, some are very slow, and slow ones come together.
            when.at("4s")
            .do(faults.Latency("redis", "20ms", jitter="20ms", distribution="pareto", correlation=0.5))
            .heal(after="1500ms"),
        ),
    ),
)
