"""The container of Redis is stopped, restarted, killed, and comes up slowly, as in an upgrade that goes badly."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="redis-restarted",
    hypothesis="A Redis container restarted in any way keeps what was acknowledged and is in use again within 10 s.",
    tags=("docker", "redis"),
    stores=(stores.SQLite(), stores.Redis(appendfsync="always"), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=13, deadline="400ms"),
    schedule=(
        when.phase("redis.applying", nth=10).do(faults.Stop("redis", grace="2s")).heal(after="1500ms"),
        when.at("5s").do(faults.Restart("redis")),
        when.random(between=("7s", "8s")).do(faults.SlowStart("redis", delay="1500ms")),
        when.at("11s").do(faults.Kill("redis")).heal(after="800ms"),
    ),
)
