"""The Redis server is killed and comes back empty: whatever it had acknowledged and synced is gone.

Its files are removed, so nothing of its own can help. The coordinator holds every commit in SQLite and fills the server
again; a system that keeps the truth in Redis alone, which is the control, has lost what it told its clients.
"""

from chaos import Experiment, Guards, KnownFailure, Limits, Recovery, checks, faults, stores, systems, when, workload

STORES = (stores.SQLite(), stores.Redis(appendfsync="always"), stores.Graph())
LOSS = faults.LoseData("redis")
GUARDS = Guards(before=1, during=0, after=1)
"""Where the coordinator dies with the server, nothing is acknowledged until both are back."""

EXPERIMENTS = (
    Experiment(
        id="redis-data-loss",
        hypothesis="A Redis server that comes back with nothing holds every committed transaction once, 10 s later.",
        tags=("process", "redis"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=6, deadline="400ms"),
        schedule=(
            # Committed in SQLite, and about to be sent: the server that it is sent to is another, empty one.
            when.next("redis.applying", after=20).do(LOSS).heal(after="700ms"),
            # Acknowledged by everybody, and gone: there is no request on the way that could tell of it.
            when.next("acknowledged", after=20).do(LOSS).heal(after="1s"),
            # The coordinator dies with it, so nobody remembers anything but what SQLite holds.
            when.next("redis.applied", after=20).do(faults.Kill("worker"), LOSS).heal(after="700ms"),
            # Lost once more in the middle of being filled.
            when.next("graph.applied", after=20).do(LOSS).heal(after="500ms"),
            when.next("redis.rebuilding").do(LOSS).heal(after="500ms"),
        ),
        guards=GUARDS,
        limits=Limits(wall="180s", overtime="90s"),
    ),
    Experiment(
        id="redis-data-loss-alone",
        hypothesis="What a server has acknowledged and synced outlives its files.",
        tags=("control", "process", "redis"),
        system=systems.Own("aof_everysec.py:RedisAlone"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=80, seconds=4, deadline="800ms"),
        schedule=(when.phase("writing", nth=80).do(LOSS).heal(after="500ms"),),
        recovery=Recovery(budget="5s", hold="200ms"),
        guards=GUARDS,
        checks=(checks.Durable(), checks.Landed()),
        expect=KnownFailure(check="durable", reason="Nothing outside the server holds what it was told."),
    ),
)
