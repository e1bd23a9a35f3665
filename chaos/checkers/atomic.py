"""Atomicity: a transaction is in every store or in none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from chaos.checkers.crashes import crash_of, with_crash
from chaos.checkers.model import WITNESS_LIMIT, Context, Verdict, Witness, verdict
from chaos.checkers.outcomes import Fate, Row, blind_spots, rows, torn_shapes
from chaos.checkers.words import contents, count_of, places, promise, shown_marks
from chaos.history.view import History


@dataclass(frozen=True)
class Atomic:
    """Every transaction ever sent is in all stores or in none, with the text that was sent, in every reading.

    Invalid: a transaction is torn (some stores hold it), altered (a store holds another text), or a store
    refused a part of it and counts it as applied, or holds a token that nobody sent. Unknown: a transaction is in
    doubt and recovery never settled it, the stores were not read both after the load and after reopening, or
    nothing was sent.

    details: "table", a row per transaction {token, process, acknowledged: ok|fail|info, resolved, <store>...,
    verdict}; "counts" by verdict; "torn" by which stores kept it, such as {"sqlite only": 3}; "refused"; "strangers";
    "crash": the hardest crash that landed (see `crashes.crash_of`), which the summary names.
    """

    name: ClassVar[str] = "atomic"

    def judge(self, history: History, context: Context) -> Verdict:
        """Judge by the images of the stores alone; linear in transactions and marks."""
        table = rows(history, context.stores)
        counts = Counter(row.fate for row in table)
        broken = [row for row in table if row.fate in ("torn", "altered")]
        strangers = list(_strangers(history, context.stores))
        refused = list(_refused(history, context.stores))
        witnesses = [_witness(history, row) for row in broken[:WITNESS_LIMIT]]
        witnesses += refused[:WITNESS_LIMIT] + strangers[:WITNESS_LIMIT]
        crash = crash_of(history)
        shapes = torn_shapes(table, context.stores)
        return verdict(
            self.name,
            broken=with_crash(_broken(counts, shapes, len(refused), len(strangers), len(table)), "after", crash),
            witnesses=witnesses,
            count=len(broken) + len(refused) + len(strangers),
            unknown=_unknown(history, context.stores, table, counts["in doubt"]),
            holds=with_crash(
                f"{count_of(len(table), 'transaction')}: {counts['committed']} in every store, "
                f"{counts['rolled back']} in none",
                "against",
                crash,
            ),
            details={
                "table": [_line(row, context.stores) for row in table],
                "counts": {fate: counts[fate] for fate in get_args(Fate)},
                "torn": shapes,
                "refused": len(refused),
                "strangers": len(strangers),
                "crash": crash,
            },
        )


def _unknown(history: History, stores: Sequence[str], table: Sequence[Row], in_doubt: int) -> Iterator[str]:
    yield from blind_spots(history, stores)
    if not table:
        yield "no transaction was sent"
    elif in_doubt and history.read_backs:
        yield f"{count_of(in_doubt, 'transaction')} in doubt that recovery never settled"


def _broken(counts: Counter[Fate], shapes: dict[str, int], refused: int, strangers: int, total: int) -> str:
    parts = []
    if counts["torn"]:
        kept = ", ".join(f"{number} in {shape}" for shape, number in shapes.items())
        parts.append(f"{counts['torn']} of {count_of(total, 'transaction')} torn: {kept}")
    if counts["altered"]:
        parts.append(f"{counts['altered']} of {count_of(total, 'transaction')} with another text than was sent")
    if refused:
        parts.append(f"{count_of(refused, 'transaction')} of which a store refused a part")
    if strangers:
        parts.append(f"{count_of(strangers, 'mark')} of tokens that nobody sent")
    return "; ".join(parts)


def _witness(history: History, row: Row) -> Witness:
    assert row.reading is not None
    text = f"{promise(history, row.operation)}; {contents(row.stores)}"
    if row.fate == "altered":
        text += f", but {row.operation.mark} was sent"
    text += f" (read back in entry {row.reading.index})"
    return Witness(text, places(history, row.operation, row.reading.index), row.operation.token)


def _refused(history: History, stores: Sequence[str]) -> Iterator[Witness]:
    """Yield the transactions of which a store would not take a part, each store and token once."""
    seen: set[tuple[str, str]] = set()
    for reading in history.read_backs:
        for store in stores:
            image = reading.images.get(store)
            for token, errors in () if image is None else image.refused.items():
                if (store, token) not in seen:
                    seen.add((store, token))
                    operation = history.transactions.get(token)
                    told = f"transaction {token}" if operation is None else promise(history, operation)
                    text = f"{told}; {store} refused a part of it: {'; '.join(errors)}"
                    entries = (reading.index,) if operation is None else places(history, operation, reading.index)
                    yield Witness(f"{text} (read back in entry {reading.index})", entries, token)


def _strangers(history: History, stores: Sequence[str]) -> Iterator[Witness]:
    """Yield what stores hold of tokens that nobody sent, each store and token once."""
    seen: set[tuple[str, str]] = set()
    for reading in history.read_backs:
        for store in stores:
            image = reading.images.get(store)
            for token in () if image is None else image.marks.keys() - history.transactions.keys():
                marks = shown_marks(image.marks[token]) if image is not None else None
                if marks is not None and (store, token) not in seen:
                    seen.add((store, token))
                    text = f"{store} holds {marks} for {token}, a transaction that nobody sent"
                    yield Witness(f"{text} (read back in entry {reading.index})", (reading.index,), token)


def _line(row: Row, stores: Sequence[str]) -> dict[str, Any]:
    return {
        "token": row.operation.token,
        "process": row.operation.process,
        "acknowledged": row.operation.kind,
        "resolved": row.resolved,
        **{store: row.stores.get(store) for store in stores},
        "verdict": row.fate,
    }
