"""No zombie: what was reported aborted never shows up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.outcomes import blind_spots, readings_bound
from chaos.checkers.words import contents, count_of, places, promise, shown_marks
from chaos.history.view import History, Operation, ReadBack


@dataclass(frozen=True)
class NoZombie:
    """Every transaction reported aborted, by its client's answer or by recovery, is in no store.

    It is looked for in every reading begun after that report, the one after reopening too: a zombie typically
    rises when a restart redoes a log. Unknown: the stores were not read both after the load and after
    reopening. No aborted transaction at all is valid, and the summary says so.

    details: "aborted", "resolved_aborted", and "found" by store.
    """

    name: ClassVar[str] = "no_zombie"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by reports of abort, resolutions and readings; linear."""
        dead = [one for one in history.transactions.values() if _disowned(history, one)]
        aborted = sum(one.kind == "fail" for one in dead)
        risen = [found for one in dead if (found := _risen(history, one, context)) is not None]
        return verdict(
            self.name,
            broken=f"{len(risen)} of {count_of(len(dead), 'aborted transaction')} found in a store",
            witnesses=[_witness(history, *found) for found in risen[:WITNESS_LIMIT]],
            count=len(risen),
            unknown=blind_spots(history, context.stores),
            holds=f"{count_of(len(dead), 'aborted transaction')}, none in any store"
            if dead
            else "no transaction was reported aborted",
            details={
                "aborted": aborted,
                "resolved_aborted": len(dead) - aborted,
                "found": {store: sum(store in where for _, _, where in risen) for store in context.stores},
            },
        )


def _disowned(history: History, operation: Operation) -> bool:
    if operation.kind == "fail":
        return True
    return any(word.outcome == "aborted" for word in history.resolutions.get(operation.token or "", ()))


def _risen(history: History, operation: Operation, context: Context) -> tuple[Operation, ReadBack, list[str]] | None:
    """Return the first reading that shows the transaction, and the stores that hold it there."""
    for reading in readings_bound(history, operation, "fail", "aborted"):
        images = reading.images
        where = [
            store for store in context.stores if store in images and images[store].marks.get(operation.token or "")
        ]
        if where:
            return operation, reading, where
    return None


def _witness(history: History, operation: Operation, reading: ReadBack, _: list[str]) -> Witness:
    token = operation.token or ""
    held = {store: shown_marks(image.marks.get(token, ())) for store, image in reading.images.items()}
    text = f"{promise(history, operation)}; yet {contents(held)} (read back in entry {reading.index})"
    return Witness(text, places(history, operation, reading.index), operation.token)
