"""A coordinator is paused in the middle of a commit, another one takes its place, and the first goes on.

Nobody has told it that it leads no more. What it still sends must change nothing, what it still wants to commit must be
refused, since its name is no longer in the commit log, and it must let go of the graph, which one process at a time can
open. There is one client, whose transactions read nothing: a process that is paused while it holds SQLite's lock, or a
snapshot of it, keeps everybody out until it goes on, which is safe and no test of fencing.
"""

from chaos import Experiment, Guards, Limits, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="paused-leader",
    hypothesis="A leader that was paused while another took its place commits nothing and changes nothing any more.",
    tags=("process", "fencing"),
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Counters(keys=16, clients=1, rate=20, seconds=10, deadline="5s"),
    guards=Guards(before=1, during=0, after=1),  # the only client waits for the answer of the one that was paused
    limits=Limits(wall="90s"),
    schedule=(
        # It goes on as soon as its successor leads. Waiting for its turn: what it then wants to commit must be refused.
        when.phase("queued", nth=15).do(faults.Supplant()).heal(at=when.phase("recovered", nth=1)),
        # Committed and not applied: its successor has applied it, and what it sends itself comes too late.
        when.phase("redis.applying", nth=45).do(faults.Supplant()).heal(at=when.phase("recovered", nth=2)),
        when.phase("graph.applying", nth=65).do(faults.Supplant()).heal(at=when.phase("recovered", nth=3)),
    ),
)
