"""Synced: an acknowledgement is backed by a sync of the commit log, not by luck."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.words import count_of, promise
from chaos.history.model import Entry
from chaos.history.view import History, Operation

BEFORE = "sqlite.committing"
AFTER = "sqlite.committed"


@dataclass(frozen=True)
class Synced:
    """Between a transaction's steps sqlite.committing and sqlite.committed, the commit log was synced.

    A process that is killed leaves its written pages with the kernel, so a missing fsync never shows in a
    reading after SIGKILL; only a power cut would tell. The file shim counts the syncs that succeeded, and every
    acknowledged transaction must have seen the count rise. Unknown: no count for some of them (no shim, or a
    system that does not report these phases), or nothing was acknowledged.

    details: "acknowledged", "counted", "unsynced".
    """

    name: ClassVar[str] = "synced"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by the counts in the steps of acknowledged transactions; linear."""
        del context
        acknowledged = [one for one in history.transactions.values() if one.kind == "ok"]
        counted = [(one, pair) for one in acknowledged if (pair := _pair(one)) is not None]
        unsynced = [(one, pair) for one, pair in counted if pair[1][1] <= pair[0][1]]
        return verdict(
            self.name,
            broken=f"{len(unsynced)} of {count_of(len(counted), 'acknowledged transaction')} "
            "without a sync of the commit log",
            witnesses=[_witness(history, one, *pair) for one, pair in unsynced[:WITNESS_LIMIT]],
            count=len(unsynced),
            unknown=_unknown(len(acknowledged), len(counted)),
            holds=f"the commit log was synced during each of {count_of(len(counted), 'acknowledged commit')}",
            details={"acknowledged": len(acknowledged), "counted": len(counted), "unsynced": len(unsynced)},
        )


def _unknown(acknowledged: int, counted: int) -> Iterator[str]:
    if not acknowledged:
        yield "no transaction was acknowledged"
    elif not counted:
        yield f"no sync counts: the file shim was not loaded, or the system reports no {BEFORE} and {AFTER}"
    elif counted < acknowledged:
        yield f"sync counts for only {counted} of {acknowledged} acknowledged transactions"


Counted = tuple[Entry, int]


def _pair(operation: Operation) -> tuple[Counted, Counted] | None:
    """Return the last commit's two steps with their counts; None when a step or a count is missing.

    The last, because a commit that met a busy store may have been tried more than once.
    """
    before: Counted | None = None
    pair: tuple[Counted, Counted] | None = None
    for step in operation.steps:
        if step.f == BEFORE:
            count = _count(step)
            before = None if count is None else (step, count)
        elif step.f == AFTER and before is not None:
            count = _count(step)
            pair = None if count is None else (before, (step, count))
    return pair


def _count(step: Entry) -> int | None:
    count = step.value.get("syncs") if isinstance(step.value, dict) else None
    return count if isinstance(count, int) else None


def _witness(history: History, operation: Operation, before: Counted, after: Counted) -> Witness:
    text = (
        f"{promise(history, operation)}; the commit log had been synced {count_of(before[1], 'time')} before its "
        f"commit (entry {before[0].index}) and {count_of(after[1], 'time')} after it (entry {after[0].index})"
    )
    end = operation.last_index
    return Witness(text, (before[0].index, after[0].index, *(() if end is None else (end,))), operation.token)
