"""The failure catalogue: each fault at each step of a commit, for each coordinator, with one client and with sixteen.

A cell is a fault, a coordinator and a number of clients. All steps of one cell are gone through in one run, some
transactions apart, so that each meets a system that is well. Pairs of faults come at the steps around the commit point,
faults in a recovery at each of its phases; what fails repeatedly there is the recovery of a recovery. Kills and faults
of stores come while bases are made and the log is purged, too, which happens often in these cells. Every cell expects
that each transaction ends committed everywhere or nowhere, and is known to, within 10 s of the heal; where work must go
on meanwhile, it demands that too. What no coordinator can make good is a damage to SQLite's own files: there it must
refuse to go on, so `durable` fails, as known. The naive coordinator is killed at the same steps, and must be seen to
fail.

`chaos list experiments/nightly/catalogue.py` has the names; one is run alone by `catalogue.py::redo-reply-lost-16`. A
leader that is paused until another leads is in ../paused_leader.py.
"""

from dataclasses import dataclass, replace

from chaos import Experiment, Guards, KnownFailure, Limits, Recovery, checks, faults, stores, systems, when, workload

BEFORE = ("begin", "buffered", "queued", "sqlite.begun")
SECONDARIES = ("redis.applying", "redis.applied", "graph.applying", "graph.applied")
COMMIT = ("sqlite.committing", "sqlite.committed")
STEPS = {
    "redo": (*BEFORE, *COMMIT, *SECONDARIES, "applied", "acknowledged"),
    "epoxy": (*BEFORE, *SECONDARIES, *COMMIT, "acknowledged"),
}
"""The steps of a commit, in the order in which each coordinator takes them."""

ARMS = {"redo": systems.Redo(), "epoxy": systems.Epoxy()}
LOCKED = {"redo": ("sqlite.begun", "sqlite.committing"), "epoxy": ("sqlite.begun", *SECONDARIES, "sqlite.committing")}
"""Where the coordinator itself has SQLite's lock."""

AROUND = {arm: tuple(step for step in steps if step in (*COMMIT, *SECONDARIES)) for arm, steps in STEPS.items()}
"""Where the stores disagree for a moment: P4 to P6."""

IN_RECOVERY = ("recovering", "redis.rebuilding", "redis.rebuilt", "graph.rebuilding", "graph.rebuilt", "recovered")
COLLECTION = ("redis.copying", "redis.copied", "graph.copying", "graph.copied", "log.purging", "log.purged")
"""The steps of making a base and purging the log: P9. Each comes again only if the collection has gone on."""

BASE_EVERY = 16
CLIENTS = (1, 16)
RATE = {1: 20, 16: 24}
"""Transactions a second: so few that a rebuilding is short, and a stall makes all sixteen clients wait all the same."""

APART = 8
"""Transactions in every store between the end of a fault and the next one."""

SECONDS = 6
"""Of load, at the least: it goes on until all faults have come."""

STRUCK = "struck"
"""In place of a time: the fault strikes a counted number of times, and is disarmed when it has for sure."""

AMPLE = 2**40


@dataclass(frozen=True)
class Row:
    """A fault, and how it is used.

    lasts: until when it holds, None for a point in time. goes_on: the coordinators under which transactions that do not
    need what is away are acknowledged meanwhile, at their deadline. steps, in_recovery: where it makes sense, None for
    all steps. locks: it takes SQLite's lock, so only where that is free. first: what makes way for it just before.
    """

    fault: faults.Fault
    lasts: str | None = None
    deadline: str = "1s"
    goes_on: tuple[str, ...] = ()
    steps: tuple[str, ...] | None = None
    locks: bool = False
    in_recovery: tuple[str, ...] = IN_RECOVERY
    first: tuple[faults.Fault, ...] = ()


def away(fault):
    """Return the row of a fault that keeps Redis away: half of the transactions can do without, if it follows a log."""
    return Row(fault, "1200ms", deadline="400ms", goes_on=("redo",))


def refused(reply):
    """Return the row of a server that answers scripts with an error, three times."""
    return Row(faults.OnCommand("redis", "EVAL*", do=faults.Forge(reply), times=3), STRUCK)


FAULTS = {
    "worker-killed": Row(faults.Kill("worker")),
    "worker-paused": Row(faults.Pause("worker"), "300ms"),
    "clock-jumped": Row(faults.ClockJump(3600), "600ms", goes_on=("redo", "epoxy")),  # and back
    "loop-stalled": Row(faults.Stall("2s")),
    "redis-killed": away(faults.Kill("redis")),
    "redis-paused": away(faults.Pause("redis")),
    "redis-refused": away(faults.Refuse("redis")),
    "redis-emptied": away(faults.LoseData("redis")),
    "request-lost": away(faults.Partition("redis", side="request")),
    "reply-lost": away(faults.Partition("redis", side="reply")),
    "connections-cut": Row(faults.Disconnect("redis"), in_recovery=IN_RECOVERY[1:]),  # nothing is connected before
    "redis-oom": refused("-OOM command not allowed when used memory > 'maxmemory'."),
    "redis-readonly": refused("-READONLY You can't write against a read only replica."),
    "redis-noscript": refused("-NOSCRIPT No matching script."),
    "graph-killed": Row(faults.Kill("graph")),
    "graph-paused": Row(faults.Pause("graph"), "300ms"),
    # Longer than the watchdog waits; so few steps that a transaction may wait for it at each.
    "graph-hung": Row(
        faults.Pause("graph"),
        "2500ms",
        deadline="2s",
        steps=("buffered", "sqlite.committed", "graph.applying", "graph.applied", "acknowledged"),
    ),
    # Another process has opened it before the next child does.
    "graph-locked": Row(
        faults.HoldLock("graph"), "1200ms", deadline="400ms", goes_on=("redo",), first=(faults.Kill("graph"),)
    ),
    "graph-sync-fails": Row(faults.DiskError("graph", error="EIO", call="sync"), STRUCK),
    "graph-disk-full": Row(faults.DiskFull("graph", freed_after=2, freed_bytes=AMPLE), STRUCK),
    "sqlite-sync-fails": Row(faults.DiskError("sqlite", error="EIO", call="sync", path="*-wal"), STRUCK),
    "sqlite-disk-full": Row(faults.DiskFull("sqlite", freed_after=4, freed_bytes=AMPLE), STRUCK),
    "sqlite-busy": Row(faults.HoldLock("sqlite"), "600ms", locks=True),
    "slow-disk": Row(faults.DiskDelay("sqlite", delay="200ms", call="sync"), "900ms", goes_on=("redo", "epoxy")),
    "slow-network": Row(faults.Latency("redis", delay="200ms"), "900ms", goes_on=("redo", "epoxy")),
    "power-lost": Row(faults.PowerLoss("posix")),
}
"""By name."""

PAIRS = (
    ("redis-killed", "worker-killed"),
    ("redis-emptied", "worker-killed"),
    ("reply-lost", "worker-killed"),
    ("graph-killed", "worker-killed"),
    ("graph-sync-fails", "worker-killed"),
    ("sqlite-sync-fails", "worker-killed"),
    ("redis-killed", "graph-killed"),
    ("redis-killed", "graph-locked"),
    ("redis-emptied", "graph-killed"),
    ("reply-lost", "graph-disk-full"),
    ("redis-paused", "graph-paused"),
    ("redis-emptied", "sqlite-sync-fails"),
    ("sqlite-sync-fails", "graph-sync-fails"),
    ("redis-emptied", "power-lost"),
    ("reply-lost", "power-lost"),
    ("sqlite-disk-full", "power-lost"),
    ("graph-disk-full", "power-lost"),
    ("sqlite-sync-fails", "power-lost"),
)
"""At P4 to P6, in this order. What outlives the second one is met by the recovery."""

CRASHES = ("worker-killed", "graph-killed", "power-lost")
"""What a recovery may be lost to, one after the other."""


COLLECTED = (
    "worker-killed",
    "redis-killed",
    "redis-emptied",
    "graph-killed",
    "graph-sync-fails",
    "graph-disk-full",
    "sqlite-sync-fails",
    "sqlite-disk-full",
    "power-lost",
)
"""What comes while bases are made and the log is purged."""


def strike(rows, moment):
    """Return the rule by which the faults of `rows` come together at `moment`, and end together."""
    rule = moment.do(*(fault for row in rows for fault in (*row.first, row.fault)))
    ends = {row.lasts for row in rows if row.lasts is not None}
    if not ends:
        return rule
    timed = ends - {STRUCK}
    if timed and (FAULTS["worker-killed"] in rows or FAULTS["power-lost"] in rows):
        return rule.heal(at=when.next("recovered"))  # it must be met by the next process, however long that takes
    # Of sixteen that are under way all may be past the call that fails, but no more than these.
    return rule.heal(after=max(timed)) if timed else rule.heal(at=when.next("acknowledged", after=20))


def experiment(name, arm, rows, schedule, clients, *, tags=(), recovery=None):
    """Return a cell of the coordinator `arm`: what it expects is the same wherever the faults come."""
    goes_on = all(arm in row.goes_on for row in rows)
    return Experiment(
        id=f"{arm}-{name}-{clients}",
        hypothesis="Wherever it comes, no transaction is torn, lost or doubled, and all is well 10 s after its end.",
        tags=("catalogue", arm, *tags),
        system=ARMS[arm],
        # What a server loses with the power must come back from the commit log.
        stores=(stores.SQLite(), stores.Redis(appendfsync="everysec"), stores.Graph()),
        workload=workload.Transfers(
            accounts=16,
            clients=clients,
            rate=RATE[clients],
            seconds=SECONDS,
            deadline=min((row.deadline for row in rows), key=("400ms", "1s", "2s").index),
            # The only client must be one that can go on, and so come to the other store of a pair.
            reads_redis=clients > 1 or not (goes_on or len(rows) > 1),
        ),
        schedule=tuple(schedule),
        recovery=recovery or Recovery(budget="10s", hold="300ms"),
        guards=Guards(before=1, during=int(goes_on), after=1),
        limits=Limits(wall="300s", overtime="200s"),
    )


def steps_of(arm, row):
    """Return the steps of a commit at which the fault makes sense."""
    chosen = STEPS[arm] if row.steps is None else (step for step in STEPS[arm] if step in row.steps)
    return tuple(step for step in chosen if not row.locks or step not in LOCKED[arm])


def cell(arm, name, clients):
    """Return the run in which fault `name` comes at every step of a commit."""
    row = FAULTS[name]
    schedule = [strike([row], when.next(step, after=APART)) for step in steps_of(arm, row)]
    return experiment(name, arm, [row], schedule, clients)


def pair(arm, names, clients):
    """Return the run in which two faults come together at every step between the first store's commit and the last."""
    rows = [replace(FAULTS[name], goes_on=()) for name in names]
    schedule = [strike(rows, when.next(step, after=APART)) for step in AROUND[arm]]
    return experiment("-and-".join(names), arm, rows, schedule, clients, tags=("pair",))


def in_collection(arm, name):
    """Return the run in which the fault comes while a base is made, or the log is purged: at each step of that."""
    row = FAULTS[name]
    schedule = [strike([row], when.next(step, after=APART)) for step in COLLECTION]
    run = experiment(f"{name}-in-collection", arm, [row], schedule, 16, tags=("collection",))
    return replace(run, system=replace(ARMS[arm], base_every=BASE_EVERY))


def can_land(arm, names):
    """Tell whether a counted fault of another store is met while Redis is away: epoxy writes nothing anywhere then."""
    first, second = (FAULTS[name] for name in names)
    return arm != "epoxy" or first.goes_on != ("redo",) or second.lasts != STRUCK


def alone(name):
    """Return the row of a fault that comes in a recovery, where no work is due; what is only slow waits to be met."""
    row = FAULTS[name]
    mild = not (row.fault.severs or row.fault.stops_work)
    return replace(row, goes_on=(), deadline="1s", lasts=STRUCK if mild and row.lasts else row.lasts)


def crash(row):
    """Return the rule after which a recovery begins: all die, and where power goes next it is power that they lack.

    A process killed within a call leaves the log of file operations in doubt, and no loss of power can be made from it.
    """
    moment = when.next("acknowledged", after=APART)
    if row == FAULTS["power-lost"]:
        return moment.do(row.fault)
    return moment.do(faults.Kill("redis"), faults.Kill("worker")).heal(after="200ms")


def in_recovery(arm, name):
    """Return the run in which the fault comes in a recovery: at each of its phases in turn, with a crash before each.

    Nobody is admitted before the end of a recovery, so the number of clients makes no difference to it.
    """
    row = alone(name)
    schedule = [rule for phase in row.in_recovery for rule in (crash(row), strike([row], when.next(phase)))]
    # What comes on top of a crash may be another one; the first one's clock goes on, and each may take 10 s.
    recovery = Recovery(budget="20s", hold="300ms")
    return experiment(f"{name}-in-recovery", arm, [row], schedule, 16, tags=("recovery",), recovery=recovery)


def in_every_recovery(arm, name):
    """Return the run in which it comes at the phases of a recovery: a crash, and five on top of it."""
    row = alone(name)
    # The end of a recovery does not wait for a store that takes longer than two seconds, so it may come before these.
    schedule = [crash(row), *(strike([row], when.next(phase)) for phase in IN_RECOVERY[:-1])]
    recovery = Recovery(budget="60s", hold="300ms")  # six in a row
    return experiment(f"{name}-again-and-again", arm, [row], schedule, 16, tags=("recovery",), recovery=recovery)


def control(step, clients):
    """Return the run in which the naive coordinator is killed at `step`, and is seen to fail."""
    return Experiment(
        id=f"naive-{step.replace('.', '-')}-{clients}",
        hypothesis="Committing each store in turn keeps transactions whole.",
        tags=("catalogue", "control", "naive"),
        system=systems.Naive(),
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(accounts=16, clients=clients, rate=40, deadline="1s"),
        schedule=tuple(when.next(step, after=APART).do(faults.Kill("worker")) for _ in range(3)),
        recovery=Recovery(budget="3s", hold="500ms"),
        guards=Guards(before=1, during=0, after=1),
        checks=(checks.Atomic(), checks.Landed()),
        expect=KnownFailure(check="atomic", reason="Nothing remembers what is still owed to the other stores."),
    )


DAMAGE = {
    "log-damaged": faults.Corrupt("sqlite", "main.db-wal", offset=16384),
    "log-header-damaged": faults.Corrupt("sqlite", "main.db-wal"),
    "database-damaged": faults.Corrupt("sqlite", "main.db", length=AMPLE),
}
"""What no coordinator can make good. SQLite itself takes a damaged log for one that ends there, and says nothing."""


def damaged(name, step):
    """Return the run in which SQLite's files are damaged, and read anew: it must not be opened any more."""
    run = experiment(f"{name}-{step.replace('.', '-')}", "redo", [Row(DAMAGE[name])], (), 16, tags=("damage",))
    return replace(
        run,
        schedule=(when.next(step, after=APART).do(DAMAGE[name], faults.Kill("worker")),),
        guards=Guards(before=1, during=0, after=0),
        checks=(checks.Durable(), checks.Landed()),
        expect=KnownFailure(check="durable", reason="Commits are lost, and the coordinator refuses to go on without."),
    )


EXPERIMENTS = (
    *(cell(arm, name, clients) for arm in ARMS for name in FAULTS for clients in CLIENTS),
    *(pair(arm, names, clients) for arm in ARMS for names in PAIRS if can_land(arm, names) for clients in CLIENTS),
    *(in_recovery(arm, name) for arm in ARMS for name in FAULTS),
    *(in_collection(arm, name) for arm in ARMS for name in COLLECTED),
    *(in_every_recovery(arm, name) for arm in ARMS for name in CRASHES),
    *(damaged(name, step) for name in DAMAGE for step in ("sqlite.committing", "redis.applied")),
    *(
        control(step, clients)
        for step in ("sqlite.committed", "redis.applying", "redis.applied", "graph.applying")
        for clients in CLIENTS
    ),
)
