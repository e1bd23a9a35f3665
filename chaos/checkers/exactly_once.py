"""Exactly once: no transaction took effect twice, and the totals of all stores tell the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.outcomes import blind_spots, counters_of, is_apart
from chaos.checkers.words import count_of, places, promise, shown_marks
from chaos.history.view import History, ReadBack


@dataclass(frozen=True)
class ExactlyOnce:
    """No store holds more than one mark of a transaction, and counters are equal in all stores that report any.

    A mark shows an effect that was added twice; a counter (a balance, a total) also shows one whose mark was
    kept but whose sum was applied twice, or half. A counter that one of these stores lacks differs. Unknown: the
    stores were not read both after the load and after reopening, or nothing was sent.

    details: "twice" by store, "counters" compared, "counters_apart".
    """

    name: ClassVar[str] = "exactly_once"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by the images of the stores; linear in marks and counters."""
        twice = list(_twice(history, context))
        apart = list(_apart(history, context))
        compared = len(
            {name for one in history.read_backs for name, said in _said(one, context).items() if len(said) > 1}
        )
        return verdict(
            self.name,
            broken=f"{count_of(len(twice), 'effect')} applied twice, "
            f"{count_of(len(apart), 'counter')} that differ between stores",
            witnesses=[_witness(history, *found) for found in twice[:WITNESS_LIMIT]] + apart[:WITNESS_LIMIT],
            count=len(twice) + len(apart),
            unknown=_unknown(history, context),
            holds="no effect twice" + (f", {count_of(compared, 'counter')} equal in all stores" if compared else ""),
            details={
                "twice": {store: sum(place == store for place, _, _ in twice) for store in context.stores},
                "counters": compared,
                "counters_apart": len(apart),
            },
        )


def _unknown(history: History, context: Context) -> Iterator[str]:
    yield from blind_spots(history, context.stores)
    if not history.transactions:
        yield "no transaction was sent"


def _twice(history: History, context: Context) -> Iterator[tuple[str, str, ReadBack]]:
    """Yield store, token and reading of every repeated effect, each store and token once."""
    seen: set[tuple[str, str]] = set()
    for reading in history.read_backs:
        for store in context.stores:
            if store not in reading.images:
                continue
            for token, marks in reading.images[store].marks.items():
                if len(marks) > 1 and (store, token) not in seen:
                    seen.add((store, token))
                    yield store, token, reading


def _witness(history: History, store: str, token: str, reading: ReadBack) -> Witness:
    held = shown_marks(reading.images[store].marks[token])
    operation = history.transactions.get(token)
    told = f"transaction {token} was never sent" if operation is None else promise(history, operation)
    entries = (reading.index,) if operation is None else places(history, operation, reading.index)
    return Witness(
        f"{told}; {store} holds it more than once: {held} (read back in entry {reading.index})", entries, token
    )


def _said(reading: ReadBack, context: Context) -> dict[str, dict[str, int | None]]:
    return counters_of({store: reading.images[store] for store in context.stores if store in reading.images})


def _apart(history: History, context: Context) -> Iterator[Witness]:
    """Yield a witness for every counter that differs, each counter once, at the first reading that shows it."""
    told: set[str] = set()
    for reading in history.read_backs:
        for name, said in _said(reading, context).items():
            if name not in told and is_apart(said):
                told.add(name)
                shown = ", ".join(
                    f"{store} has none" if value is None else f"{store} says {value}" for store, value in said.items()
                )
                yield Witness(f"counter {name}: {shown} (read back in entry {reading.index})", (reading.index,))
