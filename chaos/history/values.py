"""The forms that the `value` of an entry may take, one struct per row of the table in `chaos.history.model`.

Fields that this version does not know are ignored, so that an older reader can judge a newer run; a field of
the wrong type is refused, because a checker that guesses is worse than none.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from chaos.history.model import Entry, Read, StoreImage

Occasion = Literal["final", "reopened"]
"""When the stores were read: after load, heal and convergence · after a new process opened and recovered."""


class Sent(msgspec.Struct, frozen=True):
    """Of `transact` invoke: the text that each store must hold for the token once it is committed."""

    mark: str


class Acknowledged(msgspec.Struct, frozen=True):
    """Of `transact` ok. applied False: committed, while some store is still behind. reads: as the client saw them."""

    csn: int | None = None
    applied: bool = True
    reads: list[Read] = []


class Resolved(msgspec.Struct, frozen=True):
    """Of `resolve` ok: what recovery found out about an operation that had ended info."""

    outcome: Literal["committed", "aborted"]


class Images(msgspec.Struct, frozen=True):
    """Of `read_back` ok: what every store held, by the store's name."""

    occasion: Occasion
    stores: dict[str, StoreImage]


class FaultBegan(msgspec.Struct, frozen=True):
    """Of fault_begin: where the fault acts, its declared parameters, and what kind of fault it is."""

    store: str | None = None
    arguments: dict[str, Any] = {}
    lasting: bool = True
    stops_work: bool = False
    severs: bool = False
    bounded: bool = False
    well_before: bool | None = None


class FaultEnded(msgspec.Struct, frozen=True):
    """Of fault_end: the counters that the fault gathered, and whether it bit at all.

    end_came False: the load ended before the end that was planned for it, and it was healed then.
    """

    landed: bool
    evidence: dict[str, int | float | str] = {}
    end_came: bool = True


class Probed(msgspec.Struct, frozen=True):
    """Of a `probe` event: whether the system was well, as a whole and store by store."""

    ok: bool
    stores: dict[str, bool] = {}
    occasion: str = "health"


class Agreed(msgspec.Struct, frozen=True):
    """Of an `agreement` event: whether the digests of all stores were equal at that moment."""

    agreed: bool
    digests: dict[str, str] = {}
    phase: Literal["converging", "holding"] = "converging"


Form = TypeVar("Form", bound=msgspec.Struct)


def value_of(entry: Entry, form: type[Form]) -> Form:
    """Return the entry's value as `form`; an absent value counts as {}.

    Raises msgspec.ValidationError, whose text names the field, when the value does not fit.
    """
    return msgspec.convert({} if entry.value is None else entry.value, form)
