"""What every check shares: the context it is given, the verdict it returns, and the protocol of a check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from chaos.errors import PlanError, Problem
from chaos.history.view import History

Validity = Literal["valid", "invalid", "unknown"]
"""It held · a promise was broken, and the witnesses show where · the run cannot tell."""

WITNESS_LIMIT = 50
"""How many witnesses a verdict carries; `details["witness_count"]` tells how many there were."""


class Witness(msgspec.Struct, frozen=True):
    """One violation. text: what was promised and what was found. entries: indexes into the history."""

    text: str
    entries: tuple[int, ...] = ()
    token: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A check's answer. summary: one or two sentences for people. details: plain JSON, documented per check."""

    name: str
    valid: Validity
    summary: str
    witnesses: tuple[Witness, ...] = ()
    details: dict[str, Any] = {}


class PlannedFault(msgspec.Struct, frozen=True):
    """A fault that the plan asked for. lasting, stops_work: as in `chaos.faults.base.Fault`."""

    id: str
    kind: str
    lasting: bool = True
    stops_work: bool = False


class Guard(msgspec.Struct, frozen=True):
    """How many acknowledged transactions are demanded before, during and after each fault."""

    before: int = 1
    during: int = 1
    after: int = 1


class Expectation(msgspec.Struct, frozen=True):
    """The failure that must be seen.

    check: one name or several; all of them must be invalid. also: names that may be invalid with them, because
    they follow from it on some seeds only. reason: why, in one sentence.
    """

    check: str | tuple[str, ...]
    reason: str
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The checks that must be invalid."""
        return (self.check,) if isinstance(self.check, str) else self.check


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a history does not say: which stores there are, the budgets, and what the plan demanded.

    stores: names in the order of display. budget_s: from heal to the first good transaction, and from the end
    of load to agreement. hold_s: how long the stores must then stay agreed.
    """

    stores: tuple[str, ...]
    budget_s: float = 10.0
    hold_s: float = 1.0
    guards: Guard = Guard()
    faults: tuple[PlannedFault, ...] = ()
    expect: Expectation | None = None

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any], source: str = "plan.json") -> Context:
        """Return the context that a plan.json describes.

        source: the file's name, for messages. Raises PlanError when something needed is absent or misshapen.
        """
        try:
            return msgspec.convert(
                {
                    "stores": list(plan["stores"]),
                    **plan["recovery"],
                    "guards": plan["guards"],
                    "faults": [{"id": rule["id"], **rule["fault"]} for rule in plan["rules"]],
                    "expect": plan.get("expect"),
                },
                cls,
            )
        except (KeyError, TypeError, msgspec.ValidationError) as error:
            text = f"is not the plan of a run ({type(error).__name__}: {error})"
            remedy = "take an unedited copy of the run folder, or run the experiment again"
            raise PlanError([Problem(source, 0, text, remedy, "malformed-plan")]) from error


@runtime_checkable
class Check(Protocol):
    """Judges one property. A frozen value, one of `chaos.checkers.standard()`."""

    name: ClassVar[str]

    def judge(self, history: History, context: Context) -> Verdict:
        """Return the verdict on `history`.

        Pure: reads nothing but its arguments, opens nothing, draws nothing. Linear in the history's entries.
        """


def verdict(
    name: str,
    *,
    broken: str,
    witnesses: Sequence[Witness],
    count: int,
    unknown: Iterable[str],
    holds: str,
    details: Mapping[str, Any] | None = None,
) -> Verdict:
    """Return a verdict in which invalid beats unknown beats valid.

    broken, holds: the summaries of the invalid and of the valid case. witnesses: the first of `count`
    violations. unknown: reasons, as clauses, why the run cannot tell; none means that it can.
    """
    reasons = tuple(unknown)
    valid: Validity = "invalid" if count else "unknown" if reasons else "valid"
    summary = {"invalid": broken, "unknown": "; ".join(reasons), "valid": holds}[valid]
    full = {**(details or {}), "witness_count": count}
    if reasons:
        full["unknown"] = list(reasons)
    return Verdict(name=name, valid=valid, summary=summary, witnesses=tuple(witnesses[:WITNESS_LIMIT]), details=full)
