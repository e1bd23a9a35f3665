"""Redis is slow, with jitter, and then slow in one direction only."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="latency",
    hypothesis="A slow Redis delays transactions and breaks none.",
    tags=("network", "redis"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=4, rate=40, seconds=7, deadline="2s"),
    schedule=(
        when.at("1s").do(faults.Latency("redis", "60ms", jitter="40ms")).heal(after="2s"),
        when.random(between=("4s", "5s")).do(faults.Latency("redis", "250ms", side="reply")).heal(after="1s"),
    ),
)
