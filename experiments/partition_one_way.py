"""One direction between the system and Redis is cut at a time: requests that never arrive, replies that never return.

The two are different faults. A lost request was not executed; a lost reply belongs to one that was. A client sees the
same timeout either way, which is why a coordinator that guesses is wrong half of the time.
"""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="partition-one-way",
    hypothesis="Whichever direction is lost, a transaction that timed out in Redis takes effect once or not at all.",
    tags=("network", "redis"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=11, deadline="400ms"),
    schedule=(
        # Not executed: the request is swallowed.
        when.phase("redis.applying", nth=30)
        .do(faults.Partition("redis", side="request", mode="discard"))
        .heal(after="1200ms"),
        # Executed, and nobody hears of it.
        when.at("3500ms").do(faults.Partition("redis", side="reply", mode="discard")).heal(after="1200ms"),
        # Executed when the heal lets it through, long after its sender gave up.
        when.at("6s").do(faults.Partition("redis", side="request", mode="stall")).heal(after="1200ms"),
        # Executed at once; the reply arrives late.
        when.random(between=(8.5, 9)).do(faults.Partition("redis", side="reply", mode="stall")).heal(after="1s"),
    ),
)
