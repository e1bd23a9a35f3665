"""A store's process dies before each call of a commit in its turn, or behind it.

What a commit is made of: SQLite writes five frames, each a head and a page, and syncs its log; the server writes its
log and syncs it; the graph engine does the same. This file has a part of all calls; nightly/kill_every_call.py has
every one.
"""

from chaos import Experiment, Guards, Limits, faults, stores, when, workload

APART = 8
"""Transactions between two kills, so that each one meets a system that is well."""

CALLS = ("write", "sync")
LOGS = {"sqlite": "*-wal", "redis": "appendonlydir/*.aof", "graph": "*"}
"""The files that a commit writes to, by store."""

PHASES = {"sqlite": "sqlite.committing", "redis": "redis.applying", "graph": "graph.applying"}
"""Where a transaction stands still right before a store's calls."""


def experiment(name: str, kills: tuple[tuple[str, int, bool], ...]) -> Experiment:
    """Return an experiment with these kills: store, number of the call, and whether behind it."""
    return Experiment(
        id=name,
        hypothesis="A process that dies at any call of a commit leaves every transaction whole or absent.",
        tags=("crash", "disk", "process"),
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(accounts=16, clients=4, rate=80, seconds=len(kills), deadline="1s"),
        schedule=tuple(
            when.phase(PHASES[store], nth=APART * number)
            .do(faults.KillAtCall(store, CALLS, path=LOGS[store], nth=call, after=after))
            # Some transactions later it has struck for sure; a load that is over sooner goes on until then.
            .heal(at=when.phase("acknowledged", nth=APART * number + 4))
            for number, (store, call, after) in enumerate(kills, start=1)
        ),
        # A kill is a moment, and where recoveries overlap nobody may be acknowledged until the next one.
        guards=Guards(before=1, during=0, after=1),
        limits=Limits(wall=f"{60 + 5 * len(kills)}s"),
    )


EXPERIMENT = experiment(
    "kill-every-call",
    kills=(
        ("sqlite", 1, False),
        ("redis", 1, False),
        ("graph", 1, False),
        ("sqlite", 2, False),
        ("redis", 1, True),
        ("graph", 2, False),
        ("sqlite", 5, True),
        ("redis", 2, True),
        ("graph", 2, True),
        ("sqlite", 11, False),
        ("sqlite", 11, True),
    ),
)
