"""A history as checkers see it: operations put together from their entries, faults as intervals, readings.

Everything here is immutable and was checked for form by `chaos.history.assemble`; nothing reads a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from chaos.history.model import Entry, Read, StoreImage

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Operation:
    """What one logical client asked for, and how it ended.

    completion: None when the history ends before the operation did; it then counts as info, because nobody
    can tell any more. steps: the phases reported for its token, in order, those after the completion too.
    mark: the text every store must hold once it is committed; None for anything but a transaction.
    applied: False when it was acknowledged while a store was still behind. reads: what it told it had read.
    """

    invoke: Entry
    completion: Entry | None
    steps: tuple[Entry, ...] = ()
    mark: str | None = None
    applied: bool = False
    reads: tuple[Read, ...] = ()

    @property
    def token(self) -> str | None:
        """The transaction's token; None for an operation that is no transaction."""
        return self.invoke.token

    @property
    def process(self) -> int | None:
        """The number of the logical client; None for the harness itself."""
        return self.invoke.process

    @property
    def kind(self) -> Literal["ok", "fail", "info"]:
        """How it ended: took effect, certainly did not, or not known."""
        if self.completion is None or self.completion.kind == "info":
            return "info"
        return "ok" if self.completion.kind == "ok" else "fail"

    @property
    def last_index(self) -> int | None:
        """Index of the completing entry; None while there is none."""
        return None if self.completion is None else self.completion.index


@dataclass(frozen=True, slots=True)
class FaultInterval:
    """One injection, from the entry that began it to the entry that ended it.

    end_ns and landed are None when the history holds no end. lasting: it acted until healed; otherwise it was
    a point in time (a kill, a cut) at begin_ns, and end_ns only says when the evidence was in. bounded: though it
    was armed until healed, it was over with the last of a counted number of blows. severs: one store could not be
    used at all while it held. well_before: how the system was when it began, None if nobody knew. end_came: False when
    it was healed because the load had ended, and not by the end that was planned. error: why it could not be applied.
    """

    id: str
    kind: str
    begin_ns: int
    begin_index: int
    end_ns: int | None = None
    end_index: int | None = None
    landed: bool | None = None
    evidence: Mapping[str, int | float | str] = field(default_factory=dict)
    store: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lasting: bool = True
    stops_work: bool = False
    severs: bool = False
    bounded: bool = False
    well_before: bool | None = None
    end_came: bool = True
    error: str | None = None

    @property
    def struck_ns(self) -> int | None:
        """When it struck last, by its own evidence; None when that does not tell."""
        struck_s = self.evidence.get("struck_at_s")
        return round(struck_s * NS_PER_S) if isinstance(struck_s, int | float) else None


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What every store held at one reading.

    begin_index: the entry that began it; a transaction completed before that entry must show here.
    """

    index: int
    begin_index: int
    time_ns: int
    occasion: Literal["final", "reopened"]
    images: Mapping[str, StoreImage]


@dataclass(frozen=True, slots=True)
class Resolution:
    """Recovery's word about a token whose operation had ended info."""

    index: int
    time_ns: int
    token: str
    outcome: Literal["committed", "aborted"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One comparison of the stores' digests."""

    index: int
    time_ns: int
    agreed: bool
    phase: Literal["converging", "holding"]
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at the system's health; occasion is "before", "after", "health" or "healed".

    error: set when a probe of the steady state was given up: its name. fault: the one healed just before.
    """

    index: int
    time_ns: int
    ok: bool
    occasion: str
    stores: Mapping[str, bool]
    error: str | None = None
    fault: str | None = None


@dataclass(frozen=True)
class History:
    """A whole run, well-formed.

    torn: None, or a sentence that says what was cut off at the end of the file and ignored.
    transactions: the operations that carry a token, by token, in the order in which they were sent.
    resolutions: by token, in order; more than one when recovery ran more than once.
    """

    source: str = "history"
    entries: tuple[Entry, ...] = ()
    torn: str | None = None
    operations: tuple[Operation, ...] = ()
    transactions: Mapping[str, Operation] = field(default_factory=dict)
    faults: tuple[FaultInterval, ...] = ()
    read_backs: tuple[ReadBack, ...] = ()
    resolutions: Mapping[str, tuple[Resolution, ...]] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()
    probes: tuple[Probe, ...] = ()

    def events(self, f: str) -> tuple[Entry, ...]:
        """Return the `event` entries named `f`, in order. Linear in the history."""
        return tuple(entry for entry in self.entries if entry.f == f and entry.kind == "event")

    def resolved(self, token: str) -> Literal["committed", "aborted"] | None:
        """Return recovery's last word about `token`, None when it said nothing."""
        words = self.resolutions.get(token)
        return words[-1].outcome if words else None

    def last_read_back(self, occasion: str) -> ReadBack | None:
        """Return the last reading of that occasion, None when there was none."""
        return next((reading for reading in reversed(self.read_backs) if reading.occasion == occasion), None)


def seconds_of(time_ns: int) -> float:
    """Return nanoseconds since the run began as seconds."""
    return time_ns / NS_PER_S
