"""Which store kept what: one row for each transaction, the ground of several checks and of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from chaos.checkers.model import Witness
from chaos.checkers.words import at, count_of, shown_marks
from chaos.history.model import StoreImage
from chaos.history.view import History, Operation, ReadBack

OCCASIONS = ("final", "reopened")
"""The readings that a full judgement needs."""

Fate = Literal["committed", "rolled back", "torn", "altered", "in doubt"]
"""In every store · in none · in some · a store holds another text than was sent · not settled or not read."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one transaction.

    stores: what each store holds for it, None for nothing. reading: where that was seen; None when the stores
    were not read after the transaction ended.
    """

    operation: Operation
    resolved: str | None
    stores: Mapping[str, str | None]
    fate: Fate
    reading: ReadBack | None

    @property
    def kept(self) -> tuple[str, ...]:
        """The stores that hold anything for it."""
        return tuple(store for store, mark in self.stores.items() if mark is not None)


def readings_after(history: History, operation: Operation) -> Sequence[ReadBack]:
    """Return the readings that were begun after the operation ended, so that its outcome must show in them."""
    return _begun_after(history, operation.last_index)


def readings_bound(
    history: History, operation: Operation, kind: Literal["ok", "fail"], outcome: Literal["committed", "aborted"]
) -> Sequence[ReadBack]:
    """Return the readings begun after the promise about the operation, which must show that it is kept.

    The promise is the client's answer when that is of `kind`, else recovery's first word that says `outcome`: an
    earlier reading was made while nobody had promised anything yet. None was made: no reading.
    """
    if operation.kind == kind:
        return _begun_after(history, operation.last_index)
    words = history.resolutions.get(operation.token or "", ())
    promised = next((word.index for word in words if word.outcome == outcome), None)
    return _begun_after(history, promised)


def _begun_after(history: History, index: int | None) -> Sequence[ReadBack]:
    if index is None:
        return ()
    readings = history.read_backs
    if readings and index < readings[0].begin_index:
        return readings
    return [reading for reading in readings if reading.begin_index > index]


def blind_spots(history: History, stores: Sequence[str]) -> list[str]:
    """Return what was not read although a judgement needs it, as clauses; empty when nothing is missing."""
    reasons = []
    for occasion, when in zip(OCCASIONS, ("after the load", "after a restart"), strict=True):
        if history.last_read_back(occasion) is None:
            reasons.append(f"the stores were not read back {when}{_why_not(history, occasion)}")
    for reading in history.read_backs:
        missing = [store for store in stores if store not in reading.images]
        if missing:
            reasons.append(f"the reading in entry {reading.index} lacks {', '.join(missing)}")
    return reasons


def _why_not(history: History, occasion: str) -> str:
    """Return the error of the last reading of that occasion that was given up, in brackets; empty without one."""
    for one in reversed(history.operations):
        asked = one.invoke.value if isinstance(one.invoke.value, dict) else {}
        if one.invoke.f == "read_back" and asked.get("occasion") == occasion and one.completion is not None:
            return f" ({' '.join(one.completion.error.split())})" if one.completion.error else ""
    return ""


def gone(history: History, acknowledged: int) -> list[Witness]:
    """Return a witness when the system could not be opened any more after it had acknowledged work; else nothing."""
    if not acknowledged:
        return []
    return [
        Witness(
            f"the system had acknowledged {count_of(acknowledged, 'transaction')} and, with every fault healed, could "
            f"not be opened any more at {at(entry.time_ns)}: {' '.join((entry.error or '').split())} "
            f"(entry {entry.index})",
            (entry.index,),
        )
        for entry in history.events("system_gone")[:1]
    ]


def counters_of(images: Mapping[str, StoreImage]) -> dict[str, dict[str, int | None]]:
    """Return what each store says of each counter, by the counter's name.

    Every store that reports any counter answers for all of them: None where it has none of that name, or lost it.
    """
    reporting = {store: image.counters for store, image in images.items() if image.counters}
    names = {name for counters in reporting.values() for name in counters}
    return {name: {store: counters.get(name) for store, counters in reporting.items()} for name in sorted(names)}


def is_apart(said: Mapping[str, int | None]) -> bool:
    """Tell whether a counter differs between stores, or is lost in one."""
    return None in said.values() or len(set(said.values())) > 1


def rows(history: History, stores: Sequence[str]) -> list[Row]:
    """Return a row for each transaction, in the order in which they were sent. Linear."""
    return [_row(history, operation, stores) for operation in history.transactions.values()]


def torn_shapes(table: Sequence[Row], stores: Sequence[str]) -> dict[str, int]:
    """Count the torn rows by which stores kept them, such as {"sqlite only": 3, "sqlite+redis": 1}."""
    kept = Counter(row.kept for row in table if row.fate == "torn")
    order = sorted(kept.items(), key=lambda item: (-item[1], [stores.index(store) for store in item[0]]))
    return {f"{shape[0]} only" if len(shape) == 1 else "+".join(shape): number for shape, number in order}


def _row(history: History, operation: Operation, stores: Sequence[str]) -> Row:
    """Classify one transaction by every reading; the first that shows it broken decides."""
    assert operation.token is not None
    resolved = history.resolved(operation.token)
    reading: ReadBack | None = None
    marks: list[Sequence[str]] = []
    fate: Fate | None = None
    for reading in readings_after(history, operation):
        images = reading.images
        marks = [images[store].marks.get(operation.token, ()) for store in stores if store in images]
        fate = _fate(operation.mark, marks)
        if fate in ("torn", "altered"):
            break
    if fate is None or (fate in ("committed", "rolled back") and operation.kind == "info" and resolved is None):
        fate = "in doubt"
    read = [] if reading is None else [store for store in stores if store in reading.images]
    held = {store: shown_marks(texts) for store, texts in zip(read, marks, strict=True)}
    return Row(operation, resolved, held, fate, reading)


def _fate(mark: str | None, marks: Sequence[Sequence[str]]) -> Fate | None:
    """Tell what one reading shows; None when it read no store."""
    if not marks:
        return None
    present = sum(1 for texts in marks if texts)
    if 0 < present < len(marks):
        return "torn"
    if any(text != mark for texts in marks for text in texts):
        return "altered"
    return "committed" if present else "rolled back"
