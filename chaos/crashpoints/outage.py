"""A power loss at the end of an operation log: the disk that it leaves, and what got lost, store by store.

The log is believed only when it explains itself and, played in full, gives the folder that the dead processes left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from chaos.crashpoints import snapshot, states
from chaos.crashpoints.content import Missing, Write
from chaos.crashpoints.model import Disk, LogGap
from chaos.crashpoints.names import View
from chaos.crashpoints.recording import NoVerdict, relevant
from chaos.crashpoints.snapshot import Tree
from chaos.faults.disk.oplog import Kind, Operation

IGNORED = ("*-shm",)
"""What is no part of a disk after a crash: SQLite's index of its log, a shared map that it makes anew."""

_IN_FLIGHT_PATHS = 2
_SHOWN = 3
_TELLING_NOTHING = (Kind.MARKER, Kind.ATTACH)


@dataclass(frozen=True)
class Loss:
    """What one store lost. operations: its records in the log; bytes and names count changes that no sync covered."""

    operations: int
    bytes_lost: int
    names_lost: int


@dataclass(frozen=True)
class Outage:
    """The disk when the power is back, and the losses by the first part of the names."""

    tree: Tree
    losses: Mapping[str, Loss]


def rebuild(
    start: Tree, log: Sequence[Operation], found: Tree, policy: str, rng: Random, *, in_flight: bool = False
) -> Outage:
    """Return what a power loss after the whole `log` leaves of `start`; `policy` as for `faults.PowerLoss`.

    `found` is the folder as the processes left it. `in_flight`: one of them died within a call that changes
    something, which the folder may show and the log does not; it was not answered, so it counts as never made.

    Raises NoVerdict when the log is tainted, has a gap, or does not lead to `found`.
    """
    operations = relevant(log, IGNORED)
    disk = Disk(start)
    try:
        for index, operation in enumerate(operations):
            disk.apply(index, operation)
    except LogGap as error:
        raise NoVerdict(f"the recording has a gap: {error}") from error
    skip = states.ignoring(IGNORED)
    different = snapshot.differences(disk.now().without(skip), found.without(skip))
    if len(different) > (_IN_FLIGHT_PATHS if in_flight else 0):
        shown = ", ".join(different[:_SHOWN])
        raise NoVerdict(f"replaying the recording does not give the folder: {shown} differ; something went unseen")
    view, lost = _lost(disk, policy, rng)
    tree = disk.without(view, lost).without(skip).kept()
    return Outage(tree, _losses(disk, view, lost, operations, start))


def _lost(disk: Disk, policy: str, rng: Random) -> tuple[View, Missing]:
    """Return which operations the disk lacks, wholly or in part."""
    match policy:
        case "posix":
            return View.POSIX, states.all_missing(disk, View.POSIX)
        case "ordered":
            return View.EXT4, states.all_missing(disk, View.EXT4)
        case "random":
            return View.POSIX, states.drawn(disk, View.POSIX, rng)
        case "applied":
            return View.EXT4, {}
    raise ValueError(f"policy={policy!r} is none of a power loss")


def _losses(disk: Disk, view: View, lost: Missing, operations: Sequence[Operation], start: Tree) -> dict[str, Loss]:
    made: Counter[str] = Counter()
    for operation in operations:
        if operation.kind not in _TELLING_NOTHING:
            made[_store(operation.name)] += 1
    lost_bytes: Counter[str] = Counter()
    for file in disk.unsynced():
        for change in file.pending:
            if isinstance(change, Write) and change.index in lost:
                lost_bytes[_store(operations[change.index].name)] += _size(change, lost)
    lost_names = Counter(
        _store(operations[change.index].name) for change in disk.names.pending[view] if change.index in lost
    )
    stores = sorted({_store(path) for path in start.folders} | made.keys())
    return {store: Loss(made[store], lost_bytes[store], lost_names[store]) for store in stores if store}


def _store(name: str) -> str:
    return name.split("/", 1)[0]


def _size(change: Write, lost: Missing) -> int:
    ranges = lost[change.index]
    return len(change.payload) if ranges is None else sum(high - low for low, high in ranges)
