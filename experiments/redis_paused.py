"""The container of Redis is frozen in the middle of a transaction, and thawed after its clients gave up."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="redis-paused",
    hypothesis="What a frozen Redis container executes after it is thawed takes effect once, however late it comes.",
    tags=("docker", "redis"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=10, deadline="400ms"),
    schedule=(
        # The request is in the server's socket when the freezer takes it, and is executed after the thaw.
        when.phase("redis.applying", nth=10).do(faults.Pause("redis")).heal(after="1500ms"),
        when.random(between=("4500ms", "5500ms")).do(faults.Pause("redis")).heal(after="1200ms"),
        # The same for the network: unplugged, and what TCP still had to send arrives when the plug is back.
        when.random(between=("7500ms", "8s")).do(faults.NetworkDisconnect("redis")).heal(after="1200ms"),
    ),
)
