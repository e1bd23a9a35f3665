"""The process dies within a write, so that a sector or a page of a log is there and the next one is not."""

from chaos import Experiment, KnownFailure, Recovery, checks, faults, stores, systems, when, workload
from chaos.experiment.schedule import Rule

STORES = (stores.SQLite(), stores.Redis(), stores.Graph())


def tear(phase: str, nth: int, fault: faults.TornWrite) -> Rule:
    """Return the rule that arms `fault` at a phase, until some transactions later, when it has struck for sure."""
    return when.phase(phase, nth=nth).do(fault).heal(at=when.phase("acknowledged", nth=nth + 8))


EXPERIMENTS = (
    Experiment(
        id="torn-write",
        hypothesis="A log of any store that ends within a record is read up to the record before, and nothing is torn.",
        tags=("crash", "disk"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=6, deadline="1s"),
        schedule=(
            tear("sqlite.committing", 12, faults.TornWrite("sqlite", path="*-wal")),
            tear("redis.applying", 24, faults.TornWrite("redis", path="appendonlydir/*.aof")),
            tear("graph.applying", 36, faults.TornWrite("graph")),
            # Within the page of the fourth frame: what comes before it in the log is whole, and must not count.
            tear("sqlite.committing", 48, faults.TornWrite("sqlite", unit_bytes=4096, path="*-wal", nth=4)),
        ),
    ),
    Experiment(
        id="torn-write-believed",
        hypothesis="A store that takes whatever is in its journal for a record keeps transactions whole.",
        tags=("control", "crash", "disk"),
        system=systems.Own("_journal.py:Journal"),
        stores=STORES,
        workload=workload.Transfers(accounts=16, clients=4, rate=60, seconds=2, deadline="1s"),
        schedule=(
            when.phase("writing", nth=40)
            .do(faults.TornWrite("sqlite", path="journal"))
            .heal(at=when.phase("written", nth=50)),
        ),
        recovery=Recovery(budget="5s", hold="200ms"),
        checks=(checks.Atomic(), checks.Landed()),
        expect=KnownFailure(
            check="atomic",
            reason="The journal has no sum over a record, so half a record counts as one.",
        ),
    ),
)
