"""Far more clients than connections, on each way to choose among them, while connections are cut again and again.

Cuts come in the middle of requests, so connections break in their users' hands, are replaced under load, and deadlines
cancel those who wait. Nothing may be lost, done twice or told to the wrong transaction, and no connection may leak: in
the end all stores must answer through the same small pools.
"""

from chaos import Experiment, Guards, faults, stores, when, workload


def stress(policy: str) -> Experiment:
    """Return the experiment with one policy for all pools."""
    small = stores.Pool(min_size=1, max_size=4, reserved=1, policy=policy, idle_timeout="200ms", lifetime="1s")
    readers = stores.Pool(min_size=1, max_size=2, policy=policy, lifetime="1s")
    return Experiment(
        id=f"pool-stress-{policy}",
        hypothesis="48 clients on pools of four lose nothing when connections are cut under them.",
        tags=("pool", "redis"),
        stores=(stores.SQLite(pool=readers), stores.Redis(pool=small), stores.Graph(pool=readers)),
        workload=workload.Transfers(accounts=64, clients=48, rate=120, seconds=5, deadline="1s"),
        # While Redis stalls nothing is in every store, so nobody is answered.
        guards=Guards(before=1, during=0, after=1),
        schedule=(
            when.at("1s").do(faults.Disconnect("redis", how="rst")),
            when.phase("redis.applying", nth=60).do(faults.Disconnect("redis", how="rst")),
            when.at("2500ms").do(faults.Partition("redis", mode="stall")).heal(after="700ms"),
        ),
    )


EXPERIMENTS = tuple(stress(policy) for policy in ("lifo", "round-robin", "least-used"))
