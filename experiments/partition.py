"""Redis is cut off in the middle of coordinated transactions, in four different ways."""

from chaos import Experiment, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="partition",
    hypothesis="Cutting Redis off while transactions commit tears none of them, and all is well 10 s after the heal.",
    tags=("network", "redis"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=16, clients=6, rate=60, seconds=10, deadline="400ms"),
    schedule=(
        # The third transaction is committed in SQLite, and not yet applied anywhere, when its connection is reset.
        when.phase("sqlite.committed", nth=3).do(faults.Disconnect("redis", how="rst")),
        # Nothing passes in either direction: what needs Redis rolls back, what does not is committed and applied later.
        when.at("1s").do(faults.Partition("redis")).heal(after="1500ms"),
        # Redis executes what it is sent and its replies are lost: the classic way to apply something twice.
        when.phase("redis.applying", nth=110).do(faults.Partition("redis", side="reply")).heal(after="1500ms"),
        # Requests are held back and delivered late: the zombie write.
        when.random(between=(7, 8)).do(faults.Partition("redis", side="request", mode="stall")).heal(after="1500ms"),
    ),
)
