"""Recovery time: from the end of each fault to the first good transaction, against the budget."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.checkers.model import Context, Verdict, Witness, verdict
from chaos.checkers.outcomes import gone
from chaos.checkers.signs import Clock, Timeline, clock_of
from chaos.checkers.words import at, count_of
from chaos.history.view import NS_PER_S, FaultInterval, History, Operation, seconds_of

_MEASURES = ("detect_s", "repair_s", "first_commit_s")


@dataclass(frozen=True)
class Recovered:
    """After every fault, a new transaction commits in every store within budget_s, and the steady state returns.

    The clock of a fault starts when it is healed, or when it struck (last) if it does not act until then; it is moved
    to the end of any other fault that still held then and stops work. Three times are measured: detect, from the
    fault's beginning, or its blow, to the first sign of it (a transaction that failed, ended in doubt or was
    acknowledged with a store behind; a worker that exited; a probe that failed); repair, from the clock's start to
    the first good health probe; first commit, to the acknowledgement, with every store caught up, of a transaction
    *sent* after the clock's start. Only the last is judged, and that the probes of the steady state hold again after
    the last heal, and that the system can be opened again. Unknown: the load ended before the budget was over, or a
    fault has no end.

    details: "faults", each {id, kind, began_at_s, clock_from_s, detect_s, repair_s, first_commit_s, budget_s}
    with None for what was not seen; "maxima" of the three.
    """

    name: ClassVar[str] = "recovered"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge every injected fault; linear in the history, times the logarithm per fault."""
        timeline = Timeline.of(history)
        goods = Goods(history)
        lines: list[dict[str, Any]] = []
        witnesses: list[Witness] = []
        reasons = list(_missing(history, context))
        for fault in history.faults:
            clock = clock_of(fault, history.faults, timeline, context.budget_s)
            good = None if clock is None else goods.first_sent_from(clock.start_ns)
            line = _line(fault, clock, good, timeline, context)
            lines.append(line)
            late, reason = _judge_one(fault, clock, good, timeline, context)
            witnesses += [] if late is None else [late]
            reasons += [] if reason is None else [reason]
        acknowledged = sum(one.kind == "ok" for one in history.transactions.values())
        unsteady = [*_unsteady(history), *gone(history, acknowledged)]
        maxima = {
            name: max((line[name] for line in lines if line[name] is not None), default=None) for name in _MEASURES
        }
        return verdict(
            self.name,
            broken=_broken(len(witnesses), len(unsteady), len(lines), context),
            witnesses=witnesses + unsteady,
            count=len(witnesses) + len(unsteady),
            unknown=reasons,
            holds=f"first good transaction at most {maxima['first_commit_s']:.3f} s after a fault; "
            f"the budget is {context.budget_s:g} s"
            if maxima["first_commit_s"] is not None
            else "no fault was injected, so there was nothing to recover from",
            details={"faults": lines, "maxima": maxima},
        )


class Goods:
    """Acknowledged transactions with every store caught up, by when they were sent."""

    def __init__(self, history: History) -> None:
        """Gather them; n log n."""
        found = [one for one in history.transactions.values() if one.kind == "ok" and one.applied]
        found.sort(key=lambda one: one.invoke.time_ns)
        self._sent_ns = [one.invoke.time_ns for one in found]
        self._earliest: list[Operation] = []
        best: Operation | None = None
        for one in reversed(found):
            if best is None or end_ns(one) < end_ns(best):
                best = one
            self._earliest.append(best)
        self._earliest.reverse()

    def first_sent_from(self, start_ns: int) -> Operation | None:
        """Return the one acknowledged first among those sent at `start_ns` or later."""
        position = bisect_left(self._sent_ns, start_ns)
        return self._earliest[position] if position < len(self._earliest) else None


def end_ns(operation: Operation) -> int:
    """Return when an acknowledged transaction was acknowledged."""
    assert operation.completion is not None
    return operation.completion.time_ns


def _missing(history: History, context: Context) -> Iterator[str]:
    """Yield the planned faults that never began."""
    begun = {fault.id for fault in history.faults}
    for planned in context.faults:
        if planned.id not in begun:
            yield f"{planned.id} ({planned.kind}) was never injected"


def _line(
    fault: FaultInterval, clock: Clock | None, good: Operation | None, timeline: Timeline, context: Context
) -> dict[str, Any]:
    well_ns = None if clock is None else timeline.first_well(clock.start_ns)
    return {
        "id": fault.id,
        "kind": fault.kind,
        "began_at_s": seconds_of(fault.begin_ns),
        "clock_from_s": None if clock is None else seconds_of(clock.start_ns),
        "detect_s": None
        if clock is None or clock.noticed_ns is None
        else seconds_of(clock.noticed_ns - clock.acted_ns),
        "repair_s": None if clock is None or well_ns is None else seconds_of(well_ns - clock.start_ns),
        "first_commit_s": None if clock is None or good is None else seconds_of(end_ns(good) - clock.start_ns),
        "budget_s": context.budget_s,
    }


def _judge_one(
    fault: FaultInterval, clock: Clock | None, good: Operation | None, timeline: Timeline, context: Context
) -> tuple[Witness | None, str | None]:
    """Return a witness when the fault's recovery was late, or a reason when nobody can tell."""
    name = f"{fault.id} ({fault.kind})"
    if clock is None:
        return None, f"{name}, or another fault that held with it, has no end in the history"
    budget_ns = round(context.budget_s * NS_PER_S)
    since = f"{name} {clock.why} at {at(clock.start_ns)}"
    if good is not None and good.completion is not None:
        took_ns = good.completion.time_ns - clock.start_ns
        if took_ns <= budget_ns:
            return None, None
        text = (
            f"{since}; the first transaction sent after that and committed in every store, {good.token}, was "
            f"acknowledged at {at(good.completion.time_ns)} (entry {good.completion.index}), "
            f"{seconds_of(took_ns):.3f} s later; the budget is {context.budget_s:g} s"
        )
        return Witness(text, (*_indexes(fault), good.invoke.index, good.completion.index), good.token), None
    waited_ns = timeline.load_end_ns - clock.start_ns
    waited_s = max(0.0, seconds_of(waited_ns))
    if waited_ns < budget_ns:
        return None, f"no good transaction after {name}, but the load went on for only {waited_s:.3f} s"
    text = (
        f"{since}; no transaction sent after that was committed in every store, although load went on for "
        f"{waited_s:.3f} s; the budget is {context.budget_s:g} s"
    )
    return Witness(text, _indexes(fault)), None


def _unsteady(history: History) -> Iterator[Witness]:
    """Yield a witness for every probe of the steady state that was given up after the faults."""
    for probe in history.probes:
        if probe.occasion == "after" and not probe.ok and probe.error is not None:
            text = f"the steady state did not come back: {probe.error} was given up at {at(probe.time_ns)}"
            yield Witness(f"{text} (entry {probe.index})", (probe.index,))


def _broken(late: int, unsteady: int, faults: int, context: Context) -> str:
    parts = []
    if late:
        parts.append(f"no good transaction within {context.budget_s:g} s of {late} of {count_of(faults, 'fault')}")
    if unsteady:
        parts.append("the steady state did not come back")
    return "; ".join(parts)


def _indexes(fault: FaultInterval) -> tuple[int, ...]:
    return (fault.begin_index,) if fault.end_index is None else (fault.begin_index, fault.end_index)
