"""The machine of all stores loses power at steps of a commit, once under each reading of what a disk keeps."""

from chaos import Experiment, Limits, Recovery, faults, stores, when, workload

APART = 25
"""Transactions between two losses, so that each one meets a system that is well."""


def _experiment(policy: str, hypothesis: str, steps: tuple[str, ...]) -> Experiment:
    """Lose power at each step, and once more during the recovery from the last of these.

    Steps of Redis and the graph come again when a recovery applies anew what they lost, so they come first here:
    the nth one is a fixed transaction only before the first loss.
    """
    return Experiment(
        id=f"power-loss-{policy}",
        hypothesis=hypothesis,
        tags=("disk", "power"),
        # The server syncs once a second only: what it loses must come back from the commit log.
        stores=(stores.SQLite(synchronous="FULL"), stores.Redis(appendfsync="everysec"), stores.Graph()),
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=8, deadline="1s"),
        schedule=(
            *(
                when.phase(step, nth=APART * number).do(faults.PowerLoss(policy))
                for number, step in enumerate(steps, start=1)
            ),
            when.phase("recovering", nth=2).do(faults.PowerLoss(policy)),
        ),
        # The loss during a recovery comes on top of the one before, whose clock goes on: two times 10 s.
        recovery=Recovery(budget="20s"),
        limits=Limits(wall="90s"),
    )


EXPERIMENTS = (
    _experiment(
        "posix",
        "With nothing on the disk but synced bytes and synced names, each transaction is whole and none is lost.",
        steps=("redis.applied", "acknowledged"),
    ),
    _experiment(
        "ordered",
        "With synced bytes and all names before a sync on the disk, each transaction is whole and none is lost.",
        steps=("graph.applying", "sqlite.committing"),
    ),
    _experiment(
        "random",
        "With any part of what was not synced on the disk, each transaction is whole and none is lost.",
        steps=("graph.applied", "sqlite.committed"),
    ),
)
