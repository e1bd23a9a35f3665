"""Completion: left alone, every transaction is done; under faults most are, or are at least decided."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Literal

from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.recovered import Goods, end_ns
from chaos.checkers.signs import Timeline, clock_of
from chaos.checkers.words import count_of, places, promise
from chaos.history.view import History, Operation

DECIDED_RATIO_MIN = 0.8
"""The share of the transactions under way during faults that must be done or decided."""

End = Literal["committed", "refused", "aborted", "resolved", "unsettled"]
"""Acknowledged · denied by a rule of the workload · given up · in doubt, then settled by recovery · never settled."""

_DONE: tuple[End, ...] = ("committed", "refused")
_FOREVER_NS = 1 << 63


@dataclass(frozen=True)
class Completed:
    """What no fault disturbed was acknowledged, or refused by a rule of the workload; four of five others are decided.

    A transaction is disturbed when it was under way between the beginning of a fault and the first transaction that was
    sent after its end and committed in every store. Of those, 80 % must be acknowledged, refused, reported aborted,
    or settled by recovery: in doubt for good is the only other end. Unknown: nothing was sent.

    details: "undisturbed" and "disturbed", each with "sent" and a count by `End`; "decided_ratio" of the latter, None
    without any.
    """

    name: ClassVar[str] = "completed"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by the clients' answers, recovery's words and the faults' intervals; n log n."""
        spans = _Spans(list(_disturbances(history, context)))
        ends = {True: Counter[End](), False: Counter[End]()}
        failed: list[Operation] = []
        unsettled: list[Operation] = []
        for one in history.transactions.values():
            disturbed, end = spans.touch(one), _end(history, one)
            ends[disturbed][end] += 1
            if not disturbed and end not in _DONE:
                failed.append(one)
            elif disturbed and end == "unsettled":
                unsettled.append(one)
        total = ends[True].total()
        ratio = 1 - len(unsettled) / total if total else None
        broken = [*failed, *(unsettled if ratio is not None and ratio < DECIDED_RATIO_MIN else ())]
        return verdict(
            self.name,
            broken=_broken(ends, failed, ratio),
            witnesses=[_witness(history, one) for one in broken[:WITNESS_LIMIT]],
            count=len(broken),
            unknown=() if history.transactions else ["no transaction was sent"],
            holds=_holds(ends, ratio),
            details={"undisturbed": _line(ends[False]), "disturbed": _line(ends[True]), "decided_ratio": ratio},
        )


class _Spans:
    """Intervals of time, asked whether a transaction was under way in any of them."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        ordered = sorted(spans)
        self._begins = [begin for begin, _ in ordered]
        self._latest = list(accumulate((end for _, end in ordered), max))

    def touch(self, operation: Operation) -> bool:
        """Tell whether it was; one that never ended is under way for ever."""
        until_ns = _FOREVER_NS if operation.completion is None else operation.completion.time_ns
        begun = bisect_right(self._begins, until_ns)
        return begun > 0 and self._latest[begun - 1] >= operation.invoke.time_ns


def _disturbances(history: History, context: Context) -> Iterator[tuple[int, int]]:
    """Yield from when to when each fault is an excuse."""
    timeline, goods = Timeline.of(history), Goods(history)
    for fault in history.faults:
        clock = clock_of(fault, history.faults, timeline, context.budget_s)
        good = None if clock is None else goods.first_sent_from(clock.start_ns)
        yield fault.begin_ns, _FOREVER_NS if good is None else end_ns(good)


def _end(history: History, one: Operation) -> End:
    if one.kind == "ok":
        return "committed"
    if one.kind == "fail":
        value = None if one.completion is None else one.completion.value
        return "refused" if isinstance(value, dict) and value.get("refused") is True else "aborted"
    return "unsettled" if history.resolved(one.token or "") is None else "resolved"


def _broken(ends: dict[bool, Counter[End]], failed: Sequence[Operation], ratio: float | None) -> str:
    parts = []
    if failed:
        parts.append(
            f"{len(failed)} of {count_of(ends[False].total(), 'transaction')} that no fault disturbed not done"
        )
    if ratio is not None and ratio < DECIDED_RATIO_MIN:
        total = count_of(ends[True].total(), "transaction")
        parts.append(f"only {ratio:.0%} of {total} under faults decided, not {DECIDED_RATIO_MIN:.0%}")
    return "; ".join(parts)


def _holds(ends: dict[bool, Counter[End]], ratio: float | None) -> str:
    text = f"{count_of(ends[False].total(), 'transaction')} that no fault disturbed all done"
    if ratio is None:
        return text
    done = sum(ends[True][end] for end in _DONE) / ends[True].total()
    return f"{text}; of {ends[True].total()} under faults {done:.0%} done, {ratio:.0%} decided"


def _line(ends: Counter[End]) -> dict[str, Any]:
    return {"sent": ends.total()} | {str(end): number for end, number in ends.items()}


def _witness(history: History, one: Operation) -> Witness:
    error = one.completion.error if one.completion is not None else None
    text = promise(history, one) + (f": {' '.join(error.split())}" if error else "")
    return Witness(text, places(history, one), one.token)
