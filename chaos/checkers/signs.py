"""Signs of trouble and of health on one time line, and where the recovery clock of a fault starts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from chaos.history.view import NS_PER_S, FaultInterval, History


@dataclass(frozen=True)
class Timeline:
    """Sorted moments, in ns since the run began.

    trouble: a transaction failed, ended in doubt, or was acknowledged with a store behind; a worker exited; a
    probe was not ok. well: a probe was ok. good: (sent, acknowledged) of good transactions, by the latter.
    load_end_ns: the end of load, or the last transaction sent if that came later.
    """

    trouble: Sequence[int]
    well: Sequence[int]
    good: Sequence[tuple[int, int]]
    load_end_ns: int

    @classmethod
    def of(cls, history: History) -> Timeline:
        """Gather the moments of a history; n log n."""
        stopped = history.events("load_stopped")
        sent = [one.invoke.time_ns for one in history.transactions.values()]
        stop_ns = stopped[-1].time_ns if stopped else None
        last_ns = history.entries[-1].time_ns if history.entries else 0
        return cls(
            # What happens after the load, such as the peaceful restart before the last reading, is no sign.
            trouble=sorted(moment for moment in _trouble(history) if stop_ns is None or moment <= stop_ns),
            well=sorted(probe.time_ns for probe in history.probes if probe.ok),
            good=sorted(_good(history), key=lambda pair: pair[1]),
            load_end_ns=max([last_ns if stop_ns is None else stop_ns, *sent]),
        )

    def first_trouble(self, from_ns: int, until_ns: int) -> int | None:
        """Return the first sign of trouble within [from_ns, until_ns)."""
        position = bisect_left(self.trouble, from_ns)
        found = self.trouble[position] if position < len(self.trouble) else until_ns
        return found if found < until_ns else None

    def first_well(self, from_ns: int) -> int | None:
        """Return the first good probe at or after `from_ns`."""
        position = bisect_left(self.well, from_ns)
        return self.well[position] if position < len(self.well) else None

    def good_between(self, from_ns: int, until_ns: int) -> bool:
        """Tell whether a good transaction was both sent and acknowledged within [from_ns, until_ns)."""
        position = bisect_left(self.good, from_ns, key=lambda pair: pair[1])
        for sent_ns, ended_ns in islice(self.good, position, None):
            if ended_ns >= until_ns:
                return False
            if sent_ns >= from_ns:
                return True
        return False


@dataclass(frozen=True)
class Clock:
    """When recovery from a fault starts to count, why then, since when it acted, and when it was first noticed."""

    start_ns: int
    why: str
    acted_ns: int
    noticed_ns: int | None


def clock_of(
    fault: FaultInterval, faults: Sequence[FaultInterval], timeline: Timeline, budget_s: float
) -> Clock | None:
    """Return the recovery clock of one fault; None when it, or one that held at its end, was never healed.

    A fault's signs are those from its beginning, or its last blow, until the next fault begins after the clock's
    start: what comes later belongs to that one.
    """
    blow_ns = _blow_ns(fault, timeline)
    own_ns = fault.end_ns if blow_ns is None else blow_ns
    if own_ns is None or (fault.lasting and fault.end_ns is None):
        return None
    start_ns = own_ns
    while ends := _covers(fault, faults, start_ns, timeline):
        known = [end_ns for end_ns in ends if end_ns is not None]
        if len(known) < len(ends):
            return None
        start_ns = max(known)
    acted_ns = fault.begin_ns if blow_ns is None else blow_ns
    until_ns = min((other.begin_ns for other in faults if other.begin_ns > start_ns), default=1 << 63)
    noticed_ns = timeline.first_trouble(acted_ns, until_ns)
    if start_ns != own_ns:
        return Clock(start_ns, "ended while another fault held, which was healed", acted_ns, noticed_ns)
    if blow_ns is None:
        return Clock(start_ns, "was healed", acted_ns, noticed_ns)
    return _struck(start_ns, noticed_ns, timeline, budget_s)


def _blow_ns(fault: FaultInterval, timeline: Timeline) -> int | None:
    """Return when a fault struck, for the last time if it did more than once; None when it acts until healed.

    One that is bounded stays armed and does nothing more: its heal says nothing about when it was over. Where its
    evidence does not tell, its first sign does.
    """
    if not fault.lasting:
        return fault.begin_ns
    if not fault.bounded or not fault.landed or fault.end_ns is None:
        return None
    if fault.struck_ns is not None:
        return min(max(fault.struck_ns, fault.begin_ns), fault.end_ns)
    return timeline.first_trouble(fault.begin_ns, fault.end_ns)


def _struck(start_ns: int, noticed_ns: int | None, timeline: Timeline, budget_s: float) -> Clock:
    """Return the clock of a fault at a point in time.

    The history notes a kill just before it is done, so a transaction may still slip through in between and
    must not pass for recovery. When good transactions went on until the fault's first sign, the clock
    therefore starts at that sign. A sign later than the budget is taken for something else.
    """
    within = noticed_ns is not None and noticed_ns - start_ns <= budget_s * NS_PER_S
    if noticed_ns is not None and within and timeline.good_between(start_ns, noticed_ns):
        return Clock(noticed_ns, "struck and first showed", start_ns, noticed_ns)
    return Clock(start_ns, "struck", start_ns, noticed_ns)


def _covers(
    fault: FaultInterval, faults: Sequence[FaultInterval], moment_ns: int, timeline: Timeline
) -> list[int | None]:
    """Return the ends of the other faults under which nobody could recover at `moment_ns`; None: never healed.

    Those are lasting faults that had begun by then, held beyond it, and stop work: by their kind, or because nothing
    good got through all the time that they held. Under a mild one, such as a latency, recovery is due all the same.
    """
    ends: list[int | None] = []
    for other in faults:
        if other.id == fault.id or not other.lasting or other.begin_ns > moment_ns:
            continue
        blow_ns = _blow_ns(other, timeline)
        end_ns = other.end_ns if blow_ns is None else blow_ns
        if end_ns is not None and end_ns <= moment_ns:
            continue
        until_ns = 1 << 63 if end_ns is None else end_ns
        if other.severs or other.stops_work or not timeline.good_between(other.begin_ns, until_ns):
            ends.append(end_ns)
    return ends


def _trouble(history: History) -> Iterator[int]:
    for one in history.transactions.values():
        if one.completion is not None and (one.kind != "ok" or not one.applied):
            yield one.completion.time_ns
    for entry in history.events("worker_exited"):
        yield entry.time_ns
    for probe in history.probes:
        if not probe.ok:
            yield probe.time_ns


def _good(history: History) -> Iterator[tuple[int, int]]:
    for one in history.transactions.values():
        if one.kind == "ok" and one.applied and one.completion is not None:
            yield one.invoke.time_ns, one.completion.time_ns
