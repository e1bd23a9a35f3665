"""The way to Redis goes down and up, over and over: reconnecting is the normal state for a while."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="flapping",
    hypothesis="A way to Redis that comes and goes leaves no torn transaction, and all is well when it stays.",
    tags=("network", "redis"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=9, deadline="400ms"),
    schedule=(
        # Reset and refused, three times a second or so.
        when.at("1s").do(faults.Flapping("redis", up="200ms", down="150ms", jitter="50ms")).heal(after="2s"),
        # The same without a word: connections stay open, and what was sent meanwhile is lost.
        when.at("5s")
        .do(faults.Flapping("redis", up="300ms", down="250ms", jitter="50ms", how="discard"))
        .heal(after="2s"),
    ),
)
