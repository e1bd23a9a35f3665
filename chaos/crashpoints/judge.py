"""What a reopened state showed, and what that says about the promise. Pure functions; nothing is opened here."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from chaos.crashpoints.promises import Promise

_GAP = "although later ones are there"
_ALIKE = 60


class Outcome(StrEnum):
    """What became of the data, worst first."""

    CRASHES = "crashes"
    HANGS = "hangs"
    REFUSES = "refuses to open"
    CORRUPTED = "corrupted"
    PARTIAL = "partial transaction"
    LOST = "acknowledged data lost"
    WRONG = "wrong answer"
    OK = "ok"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome with its reason in words."""

    outcome: Outcome
    detail: str = ""

    @property
    def signature(self) -> str:
        """The same for all states that show the same thing: the outcome, and how its detail begins, without numbers.

        Which transactions are lost or partial depends on the boundary alone and makes no other finding; that later
        ones are there does.
        """
        if self.outcome is Outcome.LOST:
            return f"{self.outcome}{' with a gap' if _GAP in self.detail else ''}"
        if self.outcome is Outcome.PARTIAL:
            return str(self.outcome)
        first = self.detail.split(";")[0]
        return f"{self.outcome}: {re.sub(r'0x[0-9a-f]+|[0-9]+', 'N', first)[:_ALIKE]}"


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What a target found in a state after its recovery.

    found: the transactions that are there whole, with their exact payload. partial: those that are there in part, and
    how. counter: what the store itself says about how many there are, None when it does not say. problems: what the
    integrity checks found, an index that disagrees with its table among them. refused: why the store could not be
    opened or read. stuck: why it could not go on: write more, close, and be opened again. killed, hung: how the
    process that looked ended, if not by itself. judged: the verdict of a check that knows the promise itself. told:
    what the recovery had to do beyond the ordinary, in the store's own words; it is no fault. recovered_s: how long
    the recovery took, where that is measured.
    """

    found: tuple[str, ...] = ()
    partial: dict[str, str] = {}
    counter: int | None = None
    problems: tuple[str, ...] = ()
    refused: str | None = None
    stuck: str | None = None
    killed: str | None = None
    hung: str | None = None
    judged: Judgement | None = None
    told: tuple[str, ...] = ()
    recovered_s: float | None = None


def judge(seen: Observation, promise: Promise) -> Judgement:
    """Hold what was seen against what was promised; the worst outcome wins."""
    plain = (
        (Outcome.CRASHES, seen.killed),
        (Outcome.HANGS, seen.hung),
        (Outcome.REFUSES, seen.refused),
        (Outcome.CORRUPTED, "; ".join(" ".join(text.split()) for text in seen.problems) or None),
    )
    for outcome, detail in plain:
        if detail is not None:
            return Judgement(outcome=outcome, detail=detail)
    if seen.judged is not None:
        return seen.judged
    found = set(seen.found)
    unasked = sorted(found - (promise.begun - promise.aborted), key=_natural)
    if unasked:
        return Judgement(outcome=Outcome.CORRUPTED, detail=f"holds {_list(unasked)}, never begun or given up")
    if seen.partial:
        parts = "; ".join(f"{name}: {why}" for name, why in sorted(seen.partial.items(), key=lambda i: _natural(i[0])))
        return Judgement(outcome=Outcome.PARTIAL, detail=parts)
    if seen.counter is not None and seen.counter != len(found):
        text = f"the counter says {seen.counter}, and {len(found)} transactions are there"
        return Judgement(outcome=Outcome.PARTIAL, detail=text)
    lost = sorted(promise.acknowledged - found, key=_natural)
    if lost:
        return Judgement(outcome=Outcome.LOST, detail=_lost_text(lost, found))
    if seen.stuck is not None:
        return Judgement(outcome=Outcome.CORRUPTED, detail=f"cannot go on: {seen.stuck}")
    return Judgement(outcome=Outcome.OK)


def _lost_text(lost: list[str], found: set[str]) -> str:
    """Say which are lost, and whether later ones are there: then it is a gap and not a shorter history."""
    later = [name for name in found if _natural(name) > _natural(lost[0])]
    gap = f", {_GAP} ({_list(sorted(later, key=_natural))})" if later else ""
    return f"without {_list(lost)}, which were acknowledged{gap}"


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _natural(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (1 << 62, name)
