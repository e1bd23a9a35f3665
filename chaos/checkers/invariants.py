"""Invariants: rules that a workload states of its data, looked at in every store after the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.outcomes import blind_spots
from chaos.checkers.words import count_of
from chaos.history.view import History


@dataclass(frozen=True)
class Invariants:
    """No store breaks a rule of the workload, in any reading.

    Such a rule may be broken although each transaction is atomic: by write skew, two transactions that each leave the
    data right and together do not. Unknown: the workload states no rule, or the stores were not read.

    details: "broken" by store, "stores" that state rules.
    """

    name: ClassVar[str] = "invariants"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by what the workload said of each image; linear in what it said."""
        found = list(_broken(history, context))
        stating = [
            store
            for store in context.stores
            if any(one.images[store].broken is not None for one in history.read_backs if store in one.images)
        ]
        return verdict(
            self.name,
            broken=f"{count_of(len(found), 'rule')} of the data broken",
            witnesses=[witness for _, witness in found[:WITNESS_LIMIT]],
            count=len(found),
            unknown=_unknown(history, context, stating),
            holds=f"the rules of the data hold in {', '.join(stating)}",
            details={
                "broken": {store: sum(place == store for place, _ in found) for store in context.stores},
                "stores": stating,
            },
        )


def _unknown(history: History, context: Context, stating: list[str]) -> Iterator[str]:
    yield from blind_spots(history, context.stores)
    if not stating and history.read_backs:
        yield "the workload states no rules of its data"


def _broken(history: History, context: Context) -> Iterator[tuple[str, Witness]]:
    """Yield what is broken, each sentence of each store once, at the first reading that shows it."""
    told: set[tuple[str, str]] = set()
    for reading in history.read_backs:
        for store in context.stores:
            image = reading.images.get(store)
            for sentence in () if image is None else image.broken or ():
                if (store, sentence) not in told:
                    told.add((store, sentence))
                    text = f"{store}: {sentence} (read back in entry {reading.index})"
                    yield store, Witness(text, (reading.index,))
