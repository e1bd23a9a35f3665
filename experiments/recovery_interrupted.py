"""The coordinator is killed, killed again while it recovers, and a third time while it recovers from that.

Each recovery finds what the one before left half done: the log taken over and not followed, a graph that is being made
again, a server that is being filled. None may make things worse, and the last one must bring all to an end.
"""

from chaos import Experiment, Guards, Limits, Recovery, faults, stores, when, workload

KILL = faults.Kill("worker")
KILL_REDIS = faults.Kill("redis")


def interrupted(name, hypothesis, schedule):
    """Return the experiment with these crashes."""
    return Experiment(
        id=name,
        hypothesis=hypothesis,
        tags=("crash", "process", "recovery"),
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=6, deadline="1s"),
        schedule=schedule,
        # Several crashes in a row share one clock, and each recovery may take 10 s.
        recovery=Recovery(budget="30s"),
        guards=Guards(before=1, during=0, after=1),  # the server is down for as long as the coordinator is
        limits=Limits(wall="180s", overtime="90s"),
    )


EXPERIMENTS = (
    interrupted(
        "recovery-interrupted",
        "A recovery that is killed, wherever it stands and however often, leaves what the next one can end.",
        schedule=(
            # As soon as it leads, twice: the third start is the first that may go on.
            when.next("sqlite.committed", after=20).do(KILL),
            when.next("recovering").do(KILL),
            when.next("recovering").do(KILL),
            # While the graph is made again from the log, at the very end of that, and when nobody has heard of it yet.
            when.next("redis.applied", after=20).do(KILL),
            when.next("graph.rebuilding").do(KILL),
            when.next("graph.rebuilt").do(KILL),
            when.next("recovered").do(KILL),
        ),
    ),
    interrupted(
        "recovery-interrupted-servers",
        "A recovery that loses the stores while it fills them leaves what the next one can end.",
        schedule=(
            # The server is lost together with the coordinator, then each of them once more while it is filled.
            when.next("graph.applied", after=20).do(KILL, KILL_REDIS).heal(after="300ms"),
            when.next("redis.rebuilding").do(KILL),
            when.next("redis.rebuilding").do(KILL_REDIS).heal(after="300ms"),
            # The graph's engine is lost while it is filled, twice, and then the coordinator.
            when.next("graph.applied", after=20).do(faults.Kill("graph")),
            when.next("graph.rebuilding").do(faults.Kill("graph")),
            when.next("graph.rebuilding").do(faults.Kill("graph")),
            when.next("graph.rebuilding").do(KILL),
        ),
    ),
)
