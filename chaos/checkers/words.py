"""Plain words for witnesses and summaries, so that all checks speak alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos.history.view import History, Operation, seconds_of

_MARK_WIDTH = 40


def count_of(number: int, noun: str) -> str:
    """Return "1 transaction", "3 transactions"; the plural of `noun` must end in s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def at(time_ns: int) -> str:
    """Return a moment of the run, such as "3.412 s"."""
    return f"{seconds_of(time_ns):.3f} s"


def listed(items: Iterable[str]) -> str:
    """Join with commas and a final "and"."""
    *most, last = list(items) or ["nothing"]
    return f"{', '.join(most)} and {last}" if most else last


def shown_marks(marks: Iterable[str]) -> str | None:
    """Return the marks of one token in one store, None when there are none; long ones are cut."""
    texts = [mark if len(mark) <= _MARK_WIDTH else f"{mark[: _MARK_WIDTH - 3]}..." for mark in marks]
    return " and ".join(texts) or None


def contents(stores: Mapping[str, str | None]) -> str:
    """Say what each store holds."""
    return ", ".join(f"{store} holds {'nothing' if mark is None else mark}" for store, mark in stores.items())


def promise(history: History, operation: Operation) -> str:
    """Say which transaction it is, and what its client and recovery were told about it, with entry and time."""
    name = f"transaction {operation.token}"
    end = operation.completion
    if end is None:
        return f"{name} was sent in entry {operation.invoke.index} at {at(operation.invoke.time_ns)} and never answered"
    told = {"ok": "acknowledged", "fail": "reported aborted"}.get(operation.kind, "left in doubt")
    text = f"{name} (entry {end.index}) was {told} at {at(end.time_ns)}"
    words = history.resolutions.get(operation.token or "", ())
    if words:
        text += f" and resolved as {words[-1].outcome} in entry {words[-1].index}"
    return text


def places(history: History, operation: Operation, *more: int) -> tuple[int, ...]:
    """Return the indexes of the entries that tell the operation's story, then `more`."""
    end = () if operation.completion is None else (operation.completion.index,)
    words = tuple(word.index for word in history.resolutions.get(operation.token or "", ()))
    return (operation.invoke.index, *end, *words, *more)
