"""The coordinator is killed, killed again while it recovers, and a third time while it recovers from that.

Each recovery finds what the one before left half done: the log taken over and not followed, a server that is being
filled, a graph that is being made again. None may make things worse, and the last one must bring all to an end.
"""

from chaos import Experiment, Guards, Limits, Recovery, faults, stores, when, workload

KILL = faults.Kill("worker")

EXPERIMENT = Experiment(
    id="recovery-interrupted",
    hypothesis="A recovery that is killed, wherever it stands and however often, leaves what the next one can end.",
    tags=("crash", "process", "recovery"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=12, deadline="1s"),
    schedule=(
        # As soon as it leads, twice: the third start is the first that may go on.
        when.phase("sqlite.committed", nth=40).do(KILL),
        when.phase("recovering", nth=1).do(KILL),
        when.phase("recovering", nth=2).do(KILL),
        # While the graph is made again from the log, at the very end of that, and when nobody has heard of it yet.
        when.phase("redis.applied", nth=80).do(KILL),
        when.phase("graph.rebuilding", nth=2).do(KILL),
        when.phase("graph.rebuilt", nth=2).do(KILL),
        when.phase("recovered", nth=2).do(KILL),
        # The server is lost as well, and both are killed while it is filled.
        when.phase("graph.applied", nth=130).do(KILL, faults.Kill("redis")).heal(after="300ms"),
        when.phase("redis.rebuilding", nth=1).do(KILL),
        when.phase("redis.rebuilding", nth=2).do(faults.Kill("redis")).heal(after="300ms"),
    ),
    # Several crashes in a row share one clock, and each recovery may take 10 s.
    recovery=Recovery(budget="30s"),
    guards=Guards(before=1, during=0, after=1),  # the server is down for as long as the coordinator is
    limits=Limits(wall="120s"),
)
