"""Durability: what was acknowledged is still there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from chaos.checkers.crashes import crash_of, with_crash
from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.outcomes import blind_spots, gone, readings_bound
from chaos.checkers.words import contents, count_of, listed, places, promise, shown_marks
from chaos.history.view import History, Operation, ReadBack


@dataclass(frozen=True)
class Durable:
    """Every acknowledged transaction, and every one that recovery called committed, is in every store.

    It is looked for in every reading begun after that promise was made. What exactly a store holds for it is the
    business of `atomic` and `exactly_once`. A system that cannot be opened any more, with every fault healed, has lost
    all that it acknowledged. Unknown: the stores were not read both after the load and after reopening,
    or nothing was acknowledged, so that nothing could be lost.

    It is as strong as the hardest crash that landed, and the summary names that one: a killed process keeps what it
    wrote with the kernel, only a loss of power takes what was not synced.

    details: "acknowledged", "resolved_committed", "lost" by store, and "crash" (see `crashes.crash_of`).
    """

    name: ClassVar[str] = "durable"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by acknowledgements, resolutions and readings; linear."""
        kept = [one for one in history.transactions.values() if _promised(history, one)]
        acknowledged = sum(one.kind == "ok" for one in kept)
        crash = crash_of(history)
        losses = [loss for one in kept if (loss := _loss(history, one, context)) is not None]
        shut = gone(history, acknowledged)
        return verdict(
            self.name,
            broken=with_crash(_broken(len(losses), len(kept), acknowledged), "after", crash),
            witnesses=[*shut, *(_witness(history, *loss) for loss in losses[:WITNESS_LIMIT])],
            count=len(losses) + len(shut),
            unknown=_unknown(history, context, acknowledged),
            holds=with_crash(_holds(acknowledged, len(kept)), "against", crash),
            details={
                "acknowledged": acknowledged,
                "resolved_committed": len(kept) - acknowledged,
                "lost": {store: sum(store in absent for _, _, absent in losses) for store in context.stores},
                "crash": crash,
            },
        )


def _broken(losses: int, kept: int, acknowledged: int) -> str:
    if losses:
        return f"{losses} of {count_of(kept, 'committed transaction')} not in every store"
    return f"the system cannot be opened any more, after {count_of(acknowledged, 'acknowledged transaction')}"


def _holds(acknowledged: int, kept: int) -> str:
    text = f"{count_of(acknowledged, 'acknowledged transaction')} in every store"
    return text if kept == acknowledged else f"{text}, and {kept - acknowledged} that recovery called committed"


def _unknown(history: History, context: Context, acknowledged: int) -> Iterator[str]:
    yield from blind_spots(history, context.stores)
    if not acknowledged:
        yield "no transaction was acknowledged, so none could be lost"


def _promised(history: History, operation: Operation) -> bool:
    if operation.kind == "ok":
        return True
    return any(word.outcome == "committed" for word in history.resolutions.get(operation.token or "", ()))


def _loss(history: History, operation: Operation, context: Context) -> tuple[Operation, ReadBack, list[str]] | None:
    """Return the first reading that lacks the transaction, and the stores that lack it there."""
    for reading in readings_bound(history, operation, "ok", "committed"):
        images = reading.images
        absent = [
            store for store in context.stores if store in images and not images[store].marks.get(operation.token or "")
        ]
        if absent:
            return operation, reading, absent
    return None


def _witness(history: History, operation: Operation, reading: ReadBack, absent: list[str]) -> Witness:
    token = operation.token or ""
    held = {store: shown_marks(image.marks.get(token, ())) for store, image in reading.images.items()}
    text = f"{promise(history, operation)}; it is lost in {listed(absent)}: {contents(held)}"
    text += f" (read back in entry {reading.index})"
    return Witness(text, places(history, operation, reading.index), operation.token)
