"""The guard against an empty run: every fault bit, and there was work before, during and after it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from chaos.checkers.model import Context, PlannedFault, Verdict, verdict
from chaos.checkers.signs import Timeline
from chaos.checkers.words import count_of, listed
from chaos.history.view import NS_PER_S, FaultInterval, History


@dataclass(frozen=True)
class Landed:
    """Every fault of the plan was applied, did something, and was healed, with acknowledged work around it.

    A green run in which the fault missed or the load stood still has tested nothing. So this check is never
    invalid: it says nothing about the stores, only whether the other verdicts mean anything. Work is counted
    in acknowledged transactions by the time of their acknowledgement; during a fault it is demanded only of
    one that lasts and that does not stop all work.

    What a fault does to a system that was ill already proves nothing either, where work is demanded before it: the
    system was not well when it began, nothing good had got through in the second before, and no other fault held or
    was over for less than the budget. Where one was, it is entitled to be ill, and this is only told.

    details: "faults", each {id, kind, landed, evidence, before, during, after, well_before, well_after, end_came};
    during is None if not demanded, well_after is what the first probe after its heal found.
    """

    name: ClassVar[str] = "landed"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by the faults' own evidence and the acknowledgements; linear."""
        intervals = {interval.id: interval for interval in history.faults}
        acknowledged = sorted(
            one.completion.index
            for one in history.transactions.values()
            if one.kind == "ok" and one.completion is not None
        )
        lines = [_line(planned, intervals.get(planned.id), acknowledged, history) for planned in context.faults]
        reasons = [
            reason
            for planned, line in zip(context.faults, lines, strict=True)
            for reason in _reasons(planned, intervals.get(planned.id), line, context)
        ]
        if context.guards.before > 0:
            reasons += _ill(history, context)
        if not acknowledged and not reasons:
            reasons = ["no transaction was acknowledged"]
        return verdict(
            self.name,
            broken="",
            witnesses=(),
            count=0,
            unknown=reasons,
            holds=_holds(lines, len(acknowledged)),
            details={"faults": lines, "acknowledged": len(acknowledged)},
        )


def _line(
    planned: PlannedFault, interval: FaultInterval | None, acknowledged: Sequence[int], history: History
) -> dict[str, Any]:
    """Count the acknowledgements around one fault, by position in the history."""
    line: dict[str, Any] = {"id": planned.id, "kind": planned.kind, "landed": None, "evidence": {}}
    line |= {"before": None, "during": None, "after": None, "well_before": None, "well_after": None, "end_came": None}
    if interval is None:
        return line
    line["well_before"], line["end_came"] = interval.well_before, interval.end_came
    line["well_after"] = next((probe.ok for probe in history.probes if probe.fault == interval.id), None)
    line["landed"] = interval.landed
    line["evidence"] = dict(interval.evidence)
    line["before"] = bisect_left(acknowledged, interval.begin_index)
    if interval.end_index is not None:
        line["after"] = len(acknowledged) - bisect_right(acknowledged, interval.end_index)
        if interval.lasting and not interval.stops_work:
            line["during"] = len(acknowledged) - line["before"] - line["after"]
    return line


def _reasons(
    planned: PlannedFault, interval: FaultInterval | None, line: dict[str, Any], context: Context
) -> Iterator[str]:
    """Yield what makes this fault's run worthless."""
    name = f"{planned.id} ({planned.kind})"
    if interval is None:
        yield f"{name} was never injected: its moment did not come"
        return
    if interval.end_ns is None:
        yield f"{name} has no end in the history, so its evidence is missing"
    elif not interval.landed:
        evidence = ", ".join(f"{key}={value}" for key, value in interval.evidence.items()) or "no evidence"
        yield f"{name} did nothing: {interval.error or evidence}"
    for when, demanded in (
        ("before", context.guards.before),
        ("during", context.guards.during),
        ("after", context.guards.after),
    ):
        seen = line[when]
        if seen is not None and seen < demanded:
            yield f"{count_of(seen, 'transaction')} acknowledged {when} {name}, and {demanded} demanded"


def _ill(history: History, context: Context) -> Iterator[str]:
    """Yield the faults that met a system which was not well for no reason of ours."""
    timeline = Timeline.of(history)
    for fault in history.faults:
        since_ns = fault.begin_ns - NS_PER_S
        if fault.well_before is False and not timeline.good_between(since_ns, fault.begin_ns):
            lately_ns = fault.begin_ns - round(context.budget_s * NS_PER_S)
            if not any(_acted(other, lately_ns, fault.begin_ns) for other in history.faults if other.id != fault.id):
                yield f"the system was not well when {fault.id} ({fault.kind}) began, although no other fault held"


def _acted(fault: FaultInterval, from_ns: int, until_ns: int) -> bool:
    """Tell whether a fault held, or was over, within a span of time."""
    return fault.begin_ns <= until_ns and (fault.end_ns is None or fault.end_ns >= from_ns)


def _holds(lines: Sequence[dict[str, Any]], acknowledged: int) -> str:
    if not lines:
        return f"no fault was planned; {count_of(acknowledged, 'transaction')} acknowledged"
    around = "with acknowledged work before, during and after"
    text = f"the fault bit, {around} it" if len(lines) == 1 else f"all {len(lines)} faults bit, {around} each"
    held_on = [line["id"] for line in lines if line["end_came"] is False]
    ill = [line["id"] for line in lines if line["well_before"] is False]
    if held_on:
        text += f"; {listed(held_on)} held until the load ended, because the planned end did not come"
    if ill:
        text += f"; the system was not well yet when {listed(ill)} began"
    return text
