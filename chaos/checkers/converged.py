"""Convergence: left alone, the stores come to agree within the budget, and stay agreed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chaos.checkers.model import Context, Verdict, Witness, verdict
from chaos.checkers.words import at
from chaos.history.view import Agreement, History, seconds_of

_SLACK_S = 0.005
"""The last look comes when the hold time is over, give or take the time that it takes to note it."""


@dataclass(frozen=True)
class Converged:
    """Once load has stopped and every fault is healed, all stores agree within budget_s, and for hold_s after.

    The clock starts at load_stopped, at all_healed, or when the last transaction ended, whichever came last: the
    probes of the steady state send transactions after the load, and nothing can agree before they are done.
    Agreement counts from the look after which no disagreement was seen any more; every look of the hold must
    agree, and the hold must have lasted.
    Unknown: the load never stopped, nobody looked, or the run ended before the budget or the hold was over.

    details: "agreed_s" from the clock's start (None: never), "budget_s", "held_s", "hold_s", "looks".
    """

    name: ClassVar[str] = "converged"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by the agreement events; linear."""
        start_ns = _quiet_ns(history)
        looks = [] if start_ns is None else [look for look in history.agreements if look.time_ns >= start_ns]
        first = _first_lasting([look for look in looks if look.phase == "converging"] or looks)
        agreed_s = None if first is None or start_ns is None else seconds_of(first.time_ns - start_ns)
        holding = [look for look in looks if look.phase == "holding"]
        held_s = seconds_of(holding[-1].time_ns - first.time_ns) if holding and first is not None else 0.0
        waited_s = seconds_of(looks[-1].time_ns - start_ns) if looks and start_ns is not None else 0.0
        witnesses = _late(looks, first, agreed_s, waited_s, context) + _parted(holding, first)
        return verdict(
            self.name,
            broken=witnesses[0].text if witnesses else "",
            witnesses=witnesses,
            count=len(witnesses),
            unknown=_unknown(start_ns, looks, agreed_s, waited_s, held_s, context),
            holds=f"all stores agreed {agreed_s or 0:.3f} s after load and faults had ended, "
            f"and stayed so for {held_s:.3f} s",
            details={
                "agreed_s": agreed_s,
                "budget_s": context.budget_s,
                "held_s": held_s,
                "hold_s": context.hold_s,
                "looks": len(looks),
            },
        )


def _quiet_ns(history: History) -> int | None:
    """Return when there was neither work nor fault any more; None when the load never stopped."""
    stopped = history.events("load_stopped")
    if not stopped:
        return None
    healed = (entry.time_ns for entry in history.events("all_healed"))
    ended = (one.completion.time_ns for one in history.transactions.values() if one.completion is not None)
    return max([stopped[-1].time_ns, *healed, *ended])


def _first_lasting(looks: Sequence[Agreement]) -> Agreement | None:
    """Return the first look of the unbroken run of agreement at the end, None when it ends in disagreement."""
    first = None
    for look in reversed(looks):
        if not look.agreed:
            break
        first = look
    return first


def _late(
    looks: Sequence[Agreement], first: Agreement | None, agreed_s: float | None, waited_s: float, context: Context
) -> list[Witness]:
    if first is not None and agreed_s is not None and agreed_s > context.budget_s:
        text = f"the stores agreed only after {agreed_s:.3f} s; the budget is {context.budget_s:g} s"
        return [Witness(f"{text} (entry {first.index})", (first.index,))]
    if first is None and looks and waited_s >= context.budget_s - _SLACK_S:
        text = f"the stores still differ {waited_s:.3f} s after the load; the budget is {context.budget_s:g} s"
        return [Witness(f"{text}: {_difference(looks[-1])} (entry {looks[-1].index})", (looks[-1].index,))]
    return []


def _parted(holding: Sequence[Agreement], first: Agreement | None) -> list[Witness]:
    return [
        Witness(
            f"the stores had agreed{'' if first is None else f' at {at(first.time_ns)}'} "
            f"and differ again at {at(look.time_ns)}: {_difference(look)} (entry {look.index})",
            (look.index,) if first is None else (first.index, look.index),
        )
        for look in holding
        if not look.agreed
    ]


def _difference(look: Agreement) -> str:
    """Name the stores by what their digests have in common."""
    groups: dict[str, list[str]] = {}
    for store, digest in look.digests.items():
        groups.setdefault(digest, []).append(store)
    if not groups:
        return "they could not be read"
    if len(groups) == 1:
        return "their marks are equal but their counters are not"
    return " against ".join("+".join(stores) for stores in groups.values())


def _unknown(
    start_ns: int | None,
    looks: Sequence[Agreement],
    agreed_s: float | None,
    waited_s: float,
    held_s: float,
    context: Context,
) -> list[str]:
    if start_ns is None:
        return ["the load never stopped, so nobody could wait for agreement"]
    if not looks:
        return ["the stores were not compared after the load"]
    if agreed_s is None:
        return [f"the stores did not agree, but were watched for only {waited_s:.3f} of {context.budget_s:g} s"]
    if held_s < context.hold_s - _SLACK_S:
        return [f"the stores agreed, but were watched for only {held_s:.3f} of {context.hold_s:g} s after that"]
    return []
