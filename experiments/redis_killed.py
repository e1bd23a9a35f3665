"""The Redis server is killed, at a quiet moment and while a transaction is being applied to it."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="redis-killed",
    hypothesis="A Redis server that is killed loses nothing acknowledged and is up to date soon after it is back.",
    tags=("process", "redis"),
    stores=(stores.SQLite(), stores.Redis(appendfsync="always"), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=9, deadline="400ms"),
    schedule=(
        when.at("1s").do(faults.Kill("redis")).heal(after="1500ms"),
        when.phase("redis.applying", nth=150).do(faults.Kill("redis")).heal(after="1500ms"),
        when.random(between=("6s", "7s")).do(faults.Pause("redis")).heal(after="1500ms"),
    ),
)
