"""The parts of the text report that show evidence: faults, transactions, recovery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chaos.checkers.model import Context
from chaos.checkers.outcomes import Row, rows, torn_shapes
from chaos.checkers.words import at
from chaos.history.view import FaultInterval, History
from chaos.report.layout import heading, labelled, paragraph, table

TORN_ROWS = 10


def injected(history: History, context: Context, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was injected: a line on when and what, then how long, with which evidence, and what was planned."""
    yield from heading("What was injected")
    begun = {fault.id: fault for fault in history.faults}
    kinds = {planned.id: planned.kind for planned in context.faults}
    kinds |= {fault.id: fault.kind for fault in history.faults}
    if not kinds:
        yield "  no fault was planned"
    rules = {rule["id"]: rule for rule in plan["rules"]}
    width = max(map(len, kinds), default=0) + 2
    for name, kind in kinds.items():
        if name in begun:
            yield from _fault(begun[name], width)
        else:
            yield from labelled(name, f"{kind}: never injected, its moment did not come", width, "  ")
        asked = _asked(rules.get(name, {}))
        yield from paragraph(f"planned {asked}", " " * (width + 2)) if asked else ()


def _asked(rule: Mapping[str, Any]) -> str:
    """Say what the plan asked for; empty when the rule does not tell."""
    match rule.get("trigger"):
        case {"at_s": moment_s, "drawn_from_s": [low_s, high_s]}:
            text = f"{moment_s:g} s into the load, drawn from {low_s:g} to {high_s:g} s"
        case {"at_s": moment_s}:
            text = f"{moment_s:g} s into the load"
        case {"phase": phase, "nth": nth}:
            text = f"when {phase} is reached for the {_ordinal(nth)} time"
        case {"next": phase, "after": count}:
            text = f"when {phase} is reached next, {_in_turn(count)}"
        case _:
            return ""
    lasting = rule.get("fault", {}).get("lasting", True)
    match rule.get("until"):
        case {"after_s": delay_s}:
            text += f", for {delay_s:g} s"
        case {"phase": phase, "nth": nth}:
            text += f", until {phase} is reached for the {_ordinal(nth)} time"
        case {"next": phase, "after": count}:
            text += f", until {phase} is reached {count} good transactions later"
        case {"load_end": True} if lasting:
            text += ", until the load ends"
    return text


def _in_turn(count: int) -> str:
    return f"{count} good transactions after the rules before" if count else "once the rules before have begun"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _fault(fault: FaultInterval, width: int) -> Iterator[str]:
    where = f" on {fault.store}" if fault.store else ""
    settings = {key: value for key, value in fault.arguments.items() if key not in ("store", "target")}
    settings = {key: value for key, value in settings.items() if value is not None}
    with_what = f" ({_pairs(settings)})" if settings else ""
    yield from labelled(fault.id, f"{at(fault.begin_ns)}: {fault.kind}{where}{with_what}", width, "  ")
    if fault.end_ns is None:
        span = "no end in the history"
    elif fault.lasting:
        span = f"until {at(fault.end_ns)}"
        if not fault.end_came:
            span += ", when the load had ended: the planned end did not come"
    else:
        span = "at that moment only"
    evidence = _pairs(fault.evidence) or "no evidence"
    landed = {True: "it landed", False: "it did NOTHING", None: "not known whether it landed"}[fault.landed]
    error = f" ({fault.error})" if fault.error else ""
    ill = "; the system was not well when it began" if fault.well_before is False else ""
    yield from paragraph(f"{span}; {landed}: {evidence}{error}{ill}", " " * (width + 2))


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_number(value)}" for key, value in values.items())


def _number(value: object) -> str:
    if isinstance(value, Mapping):  # what a rule does: "cut rst"
        return " ".join(_number(part) for part in value.values() if part is not None)
    return f"{value:g}" if isinstance(value, float) else str(value)


def transactions(history: History, context: Context) -> Iterator[str]:
    """Yield how the transactions were answered, what recovery settled, what the stores hold, and the torn ones."""
    yield from heading("Transactions")
    table_rows = rows(history, context.stores)
    if not table_rows:
        yield "  none was sent"
        return
    for number, text in _answers(table_rows):
        yield from paragraph(text, f"  {number:>7}  ", " " * 11)
    if history.read_backs:
        yield from paragraph(f"in the stores: {_found(table_rows)}", "  ", "    ")
    else:
        yield "  the stores were not read back"
    yield from _torn(table_rows, context.stores)


def _answers(table_rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
    kinds = Counter(row.operation.kind for row in table_rows)
    behind = sum(row.operation.kind == "ok" and not row.operation.applied for row in table_rows)
    yield len(table_rows), "sent"
    later = f", {behind} of them applied in every store only after the acknowledgement" if behind else ""
    yield kinds["ok"], f"acknowledged{later}"
    yield kinds["fail"], "reported aborted"
    doubtful = Counter(row.resolved for row in table_rows if row.operation.kind == "info")
    told = ""
    if kinds["info"]:
        told = f", then resolved: {doubtful['committed']} committed, {doubtful['aborted']} aborted"
        told += f"; {doubtful[None]} never resolved" if doubtful[None] else ""
    yield kinds["info"], f"in doubt{told}"


def _found(table_rows: Sequence[Row]) -> str:
    fates = Counter(row.fate for row in table_rows)
    parts = [f"{fates['committed']} committed", f"{fates['rolled back']} rolled back", f"{fates['torn']} torn"]
    if fates["altered"]:
        parts.append(f"{fates['altered']} altered")
    if fates["in doubt"]:
        parts.append(f"{fates['in doubt']} still in doubt")
    return ", ".join(parts)


def _torn(table_rows: Sequence[Row], stores: Sequence[str]) -> Iterator[str]:
    torn = [row for row in table_rows if row.fate == "torn"]
    if not torn:
        return
    shapes = ", ".join(f"{shape} {number}" for shape, number in torn_shapes(table_rows, stores).items())
    yield ""
    yield from paragraph(f"torn transactions, by what kept them: {shapes}", "  ", "    ")
    lines = [_torn_line(row, stores) for row in torn[:TORN_ROWS]]
    yield from table(("transaction", "at", "told", "resolved", *stores), lines, "    ")
    if len(torn) > TORN_ROWS:
        yield f"    and {len(torn) - TORN_ROWS} more, in checks/atomic.json"


def _torn_line(row: Row, stores: Sequence[str]) -> list[str]:
    operation = row.operation
    moment = operation.invoke if operation.completion is None else operation.completion
    told = {"ok": "committed", "fail": "aborted", "info": "in doubt"}[operation.kind]
    return [
        operation.token or "",
        at(moment.time_ns),
        told,
        row.resolved or "-",
        *(row.stores.get(store) or "-" for store in stores),
    ]


def recovery(details: Mapping[str, Any], budget_s: float) -> Iterator[str]:
    """Yield the recovery table from the details of the verdict `recovered`; nothing when there was no fault."""
    faults = details.get("faults") or []
    if not faults:
        return
    yield from heading(f"Recovery, against a budget of {budget_s:g} s")
    lines = [
        [
            str(line["id"]),
            str(line["kind"]),
            _span(line["detect_s"], "not seen"),
            _span(line["repair_s"], "not seen"),
            _span(line["first_commit_s"], "NEVER"),
            _within(line["first_commit_s"], budget_s),
        ]
        for line in faults
    ]
    if len(lines) > 1:
        maxima = details["maxima"]
        shown = (_span(maxima[name], "-") for name in ("detect_s", "repair_s", "first_commit_s"))
        lines.append(["", "longest", *shown, ""])
    yield from table(("", "fault", "noticed after", "healthy after", "first commit after", "in budget"), lines)
    yield from paragraph(
        "noticed counts from the fault's beginning, the others from its end, or from its beginning too when it is "
        "a single blow",
        "  ",
    )


def _span(span_s: float | None, absent: str) -> str:
    return absent if span_s is None else f"{span_s:.3f} s"


def _within(span_s: float | None, budget_s: float) -> str:
    return "-" if span_s is None else "yes" if span_s <= budget_s else "NO"
