"""What happened around a transaction, in the order in which it happened, told by everybody who saw some of it.

The client says what it asked and was told, the system where it was, the nemesis when a fault began and ended, the
proxy what crossed the wire, and the last reading what the stores hold. All of them use one clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.history.model import Entry
from chaos.history.view import FaultInterval, History, Operation, seconds_of
from chaos.report.layout import clean, labelled
from chaos.report.wire import Line, Wire

_AROUND_NS = 2_000_000_000
_LABEL = 31
_TYPES = {
    "+": "a status",
    "-": "an ERROR",
    ":": "a number",
    "$": "a text",
    "*": "an array",
    "_": "nothing",
    "%": "a map",
    "~": "a set",
    "#": "true or false",
    ",": "a number",
}


@dataclass(frozen=True)
class Moment:
    """One line of a timeline. who: client, system, nemesis, proxy or stores. data: the record behind it."""

    time_ns: int
    who: str
    text: str
    fault: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"time_ns": self.time_ns, "who": self.who, "text": self.text, "fault": self.fault, "data": self.data}


def of_transaction(history: History, token: str, wire: Wire | None, ledger: Sequence[Line]) -> list[Moment]:
    """Return the timeline of one transaction; it must be in the history."""
    operation = history.transactions[token]
    about = wire.about(token) if wire is not None else ()
    moments = [*_operation(operation), *_resolutions(history, token), *(_frame(line) for line in about)]
    end_ns = max([moment.time_ns for moment in moments] + [operation.invoke.time_ns])
    hit = {str(line["fault"]) for line in about if line.get("fault")}
    for fault in history.faults:
        near = fault.id in hit or _overlaps(fault, operation.invoke.time_ns, end_ns)
        if near:
            moments += _fault(fault, hit=fault.id in hit, since_ns=operation.invoke.time_ns, ledger=ledger)
    moments.sort(key=lambda moment: moment.time_ns)
    return moments + list(_contents(history, token))


def of_run(history: History, wire: Wire | None, ledger: Sequence[Line]) -> list[Moment]:
    """Return everything that is known of a run, in order."""
    moments = [moment for one in history.transactions.values() for moment in _operation(one)]
    moments += [moment for token in history.resolutions for moment in _resolutions(history, token)]
    moments += [_frame(line) for line in (wire.lines if wire is not None else ()) if line["kind"] != "journal"]
    for fault in history.faults:
        moments += _fault(fault, hit=True, since_ns=0, ledger=ledger)
    moments += [
        Moment(entry.time_ns, "harness", _plain(entry), data={"index": entry.index})
        for entry in history.entries
        if entry.kind == "event" and entry.f not in ("probe", "agreement", "sample")
    ]
    return sorted(moments, key=lambda moment: moment.time_ns)


def interesting(history: History, wire: Wire | None, witnesses: Sequence[str]) -> list[str]:
    """Return the transactions to look at first: witnesses of broken checks, frames hit, work under way at a fault."""
    found = [token for token in witnesses if token in history.transactions]
    if wire is not None:
        found += [token for line in wire.hits if (token := wire.token(line)) in history.transactions and token]
    for fault in history.faults:
        found += [
            token
            for token, one in history.transactions.items()
            if one.invoke.index < fault.begin_index and (one.last_index or 1 << 62) > fault.begin_index
        ]
    return list(dict.fromkeys(found))


def lines(moments: Sequence[Moment]) -> Iterator[str]:
    """Yield a timeline as text: when (and how long after the first line), who, what."""
    if not moments:
        return
    start_ns = moments[0].time_ns
    for moment in moments:
        after_ms = (moment.time_ns - start_ns) / 1e6
        when = f"{seconds_of(moment.time_ns):9.4f} s {f'+{after_ms:.1f} ms':>12}  {moment.who:<8}"
        mark = f"[{moment.fault}] " if moment.fault else ""
        yield from labelled(when, f"{mark}{moment.text}", _LABEL + 5)


def _operation(operation: Operation) -> Iterator[Moment]:
    invoke, end = operation.invoke, operation.completion
    yield Moment(
        invoke.time_ns, "client", f"asks for transaction {operation.token}: {operation.mark}", data=_where(invoke)
    )
    for step in operation.steps:
        yield Moment(step.time_ns, "system", step.f, data=_where(step))
    if end is None:
        return
    value = end.value if isinstance(end.value, dict) else {}
    late = "" if operation.applied or end.kind != "ok" else ", not yet applied everywhere"
    told = {"ok": f"is told: committed as number {value.get('csn')}{late}", "fail": "is told: aborted"}
    text = told.get(end.kind, "does not know what became of it")
    yield Moment(end.time_ns, "client", f"{text}{f': {clean(end.error)}' if end.error else ''}", data=_where(end))


def _resolutions(history: History, token: str) -> Iterator[Moment]:
    for word in history.resolutions.get(token, ()):
        yield Moment(word.time_ns, "system", f"recovery settles {token}: {word.outcome}", data={"index": word.index})


def _overlaps(fault: FaultInterval, begin_ns: int, end_ns: int) -> bool:
    until_ns = fault.end_ns if fault.end_ns is not None else begin_ns
    return fault.begin_ns <= end_ns and until_ns >= begin_ns and fault.begin_ns >= begin_ns - _AROUND_NS


def _fault(fault: FaultInterval, *, hit: bool, since_ns: int, ledger: Sequence[Line]) -> Iterator[Moment]:
    arguments = {name: value for name, value in fault.arguments.items() if value is not None}
    shown = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
    meanwhile = "" if hit else "meanwhile: "
    before = "" if fault.begin_ns >= since_ns else " (before this transaction)"
    yield Moment(fault.begin_ns, "nemesis", f"{meanwhile}begins {fault.kind} ({shown}){before}", fault.id)
    for line in ledger:
        if line.get("fault") == fault.id and line.get("state") == "applied" and "time_ns" in line:
            yield Moment(int(line["time_ns"]), "nemesis", f"{meanwhile}{fault.kind} is in place", fault.id)
    if fault.end_ns is not None:
        evidence = ", ".join(f"{name}={value}" for name, value in fault.evidence.items()) or "nothing was counted"
        yield Moment(fault.end_ns, "nemesis", f"{meanwhile}heals {fault.kind}: {evidence}", fault.id)


def _short(value: Any) -> str:
    """Return a parameter in one word or a few: an action reads "cut rst"."""
    if isinstance(value, Mapping):
        return " ".join(_short(part) for part in value.values() if part is not None)
    return str(value)


def _frame(line: Line) -> Moment:
    place = f"connection {line['connection']}" if "connection" in line else ""
    if "frame" in line:
        place += f", frame {line['frame']}"
    named = " ".join(str(line[name]) for name in ("command", "key") if line.get(name))
    size = f"{line.get('size', 0)} bytes"
    kind = _TYPES.get(str(line.get("type")), "something else")
    text = {
        "open": f"{place}: opened",
        "close": f"{place}: closed",
        "cut": f"{place}: CUT ({line.get('how')})",
        "request": f"{place}: {named} ({size})",
        "reply": f"{place}: the server answers: {kind} ({size})",
        "push": f"{place}: the server pushes {size}",
        "swallowed": f"{place}: the server's second answer is swallowed ({size})",
        "forged": f"{place}: the proxy answers in the server's place: {kind} ({size})",
        "rule": f"{place}: HIT {named}, {line.get('at')}: {line.get('action')}",
        "unread": f"{place}: frames cannot be read any more: {line.get('reason')}",
        "fault_injected": f"acts: {line.get('f')}",
        "fault_healed": "acts no more",
    }.get(str(line["kind"]), f"{line['kind']} {place}")
    return Moment(int(line["time_ns"]), "proxy", text, line.get("fault"), line)


def _contents(history: History, token: str) -> Iterator[Moment]:
    if not history.read_backs:
        return
    reading = history.read_backs[-1]
    held = []
    for store, image in reading.images.items():
        marks = image.marks.get(token, [])
        times = "" if len(marks) < 2 else f" {len(marks)} TIMES"
        held.append(f"{store} holds {marks[0] if marks else 'nothing'}{times}")
    yield Moment(reading.time_ns, "stores", "; ".join(held), data={"index": reading.index})


def _plain(entry: Entry) -> str:
    value = entry.value if isinstance(entry.value, dict) else {}
    return " ".join([entry.f, *(f"{name}={item}" for name, item in value.items())])


def _where(entry: Entry) -> dict[str, Any]:
    return {"index": entry.index, "kind": entry.kind, "f": entry.f}
