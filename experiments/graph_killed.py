"""The graph engine's process is killed before and after its commit, and stopped for a while."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="graph-killed",
    hypothesis="A graph engine that crashes or hangs is restarted, and every committed transaction reaches it once.",
    tags=("process", "graph"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=8, deadline="1s"),
    schedule=(
        when.at("1s").do(faults.Kill("graph")),
        when.phase("graph.applying", nth=120).do(faults.Kill("graph")),
        when.phase("graph.applied", nth=200).do(faults.Kill("graph")),
        when.random(between=("5s", "6s")).do(faults.Pause("graph")).heal(after="1500ms"),
    ),
)
