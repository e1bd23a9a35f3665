"""A rule of the shim in its three shapes: the mapping that a fault declares, the slot, and what it did."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaos.faults.disk import layout
from chaos.faults.disk.calls import table
from chaos.faults.disk.layout import Action

_COUNTER_NAMES = {
    Action.ERRNO: "calls_failed",
    Action.DELAY: "calls_delayed",
    Action.SHORT: "calls_shortened",
    Action.KILL: "processes_killed",
    Action.KILL_AFTER: "processes_killed",
    Action.COUNT: "calls_counted",
    Action.FULL: "calls_failed",
    Action.LIE: "calls_lied_to",
    Action.SYNC_FAIL: "calls_failed",
    Action.TEAR: "processes_killed",
    Action.ROT: "reads_changed",
    Action.MISDIRECT: "writes_misdirected",
    Action.KILL_ALL: "processes_killed",
    Action.KILL_ALL_AFTER: "processes_killed",
}


def counter_name(action: Action) -> str:
    """Return the name under which evidence counts the calls that were acted on."""
    return _COUNTER_NAMES[action]


_CHANGING = ("write", "truncate", "allocate")

_NAMES = [name for name, *_ in layout.Rule._fields_]  # so ctypes names it
DECLARED_FIELDS = tuple(_NAMES[_NAMES.index("calls") : _NAMES.index("glob") + 1])
"""The fields of a slot that a rule declares, from `calls` to `glob`."""


@dataclass(frozen=True)
class Injected:
    """One injection as the shim recorded it before the call returned.

    `clock` is the operation's number among all operations on files in scope; `time_ns` is CLOCK_MONOTONIC;
    `offset` is None when the call has none; `amount` is the bytes let through or the nanoseconds of a delay;
    `error` is None unless the call was made to fail; `path` is the end of the root-relative name.
    """

    sequence: int
    clock: int
    time_ns: int
    pid: int
    rule_id: str
    action: str
    call: str
    path: str
    offset: int | None
    size_bytes: int
    amount: int
    error: str | None


def within(name: str, value: Any, low: int, high: int) -> int:
    """Return `value` if it is a whole number from `low` to `high`; raise ValueError, naming it, if not."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}={value!r} must be a whole number between {low} and {high}")
    return value


def text(name: str, value: str, room: int) -> bytes:
    """Return `value` as the bytes of a field of `room` bytes; raise ValueError, naming it, if it does not fit."""
    data = value.encode()
    if not data or len(data) >= room or b"\0" in data:
        raise ValueError(f"{name}={value!r} must have 1 to {room - 1} bytes and no NUL")
    return data


def encode(rule_id: str, rule: Mapping[str, Any]) -> layout.Rule:
    """Turn a rule's mapping into a slot's fields. Raises ValueError, naming the field and its bound.

    Beside what every rule has, an action needs: errno "error"; delay "delay_s", and may have "spread" with
    "spread_s", and "s_per_mib"; short "keep_bytes"; full "budget_bytes", and may have "freed_bytes" with "freed_after";
    sync_fail "pages"; tear and rot "unit_bytes"; misdirect "shift_bytes".
    """
    name = str(rule.get("action", "")).upper()
    if name not in Action.__members__ or name == Action.NONE.name:
        raise ValueError(f"action={rule.get('action')!r} is not an action")
    action = Action[name]
    calls = rule.get("calls", ())
    error = _error(action, rule)
    entry = layout.Rule()
    entry.action = action
    calls = (calls,) if isinstance(calls, str) else tuple(calls)
    if action is Action.SYNC_FAIL and rule["pages"] == "reverted":
        calls += _CHANGING  # what they change must be known when a sync fails
    entry.calls = table().mask(calls, error)
    if not entry.calls:
        raise ValueError(f"calls={calls!r} must name at least one call")
    entry.error = getattr(errno, error) if error else 0
    entry.nth = within("nth", rule.get("nth", 1), 1, layout.COUNT_MAX)
    entry.count = within("count", rule.get("count", 0), 0, layout.COUNT_MAX)
    _encode_amounts(entry, action, rule)
    probability = float(rule.get("probability", 1.0))
    if not 0 < probability <= 1:
        raise ValueError(f"probability={probability!r} must be above 0 and at most 1")
    entry.probability = max(1, round(probability * layout.PROBABILITY_ONE))
    entry.seed = within("seed", rule.get("seed", 0), 0, (1 << 64) - 1)
    if rule.get("offsets") is not None:
        entry.first, entry.end = (within("offsets", place, 0, layout.PLACE_MAX) for place in rule["offsets"])
    entry.id = text("id", rule_id, layout.ID_BYTES)
    entry.glob = text("path", str(rule.get("path", "*")), layout.GLOB_BYTES)
    return entry


def _error(action: Action, rule: Mapping[str, Any]) -> str | None:
    match action:
        case Action.ERRNO:
            return str(rule["error"])
        case Action.SYNC_FAIL:
            return str(rule.get("error", "EIO"))
        case Action.FULL:
            return "ENOSPC"
        case _:
            return None


def _encode_amounts(entry: layout.Rule, action: Action, rule: Mapping[str, Any]) -> None:
    """Fill in the numbers whose meaning depends on the action; control.h tells it."""
    match action:
        case Action.FULL:
            within("budget_bytes", rule.get("budget_bytes", 0), 0, layout.COUNT_MAX)
            entry.second = within("freed_bytes", rule.get("freed_bytes", 0), 0, layout.COUNT_MAX)
            entry.third = within("freed_after", rule.get("freed_after", 0), 0, layout.COUNT_MAX)
        case Action.SHORT:
            entry.amount = within("keep_bytes", rule.get("keep_bytes"), 1, layout.COUNT_MAX)
        case Action.DELAY:
            entry.amount = _nanoseconds("delay_s", rule["delay_s"])
            entry.second = _nanoseconds("spread_s", rule.get("spread_s", 0))
            entry.third = _nanoseconds("s_per_mib", rule.get("s_per_mib", 0))
            entry.spread = layout.Spread[str(rule.get("spread", "none")).upper()]
        case Action.SYNC_FAIL:
            entry.amount = layout.Pages[str(rule["pages"]).upper()]
        case Action.TEAR | Action.ROT:
            entry.amount = within("unit_bytes", rule.get("unit_bytes"), 1, layout.COUNT_MAX)
        case Action.MISDIRECT:
            entry.amount = within("shift_bytes", rule.get("shift_bytes"), 1, layout.COUNT_MAX)
        case _:
            pass


def _nanoseconds(name: str, value: Any) -> int:
    return within(f"{name} in ns", round(float(value) * 1e9), 0, layout.COUNT_MAX)


def count(counter: int, generation: int) -> int:
    """Return what a counter holds for `generation`: 0 when it was last touched for another one."""
    return counter & layout.COUNT_MAX if counter >> layout.GENERATION_SHIFT == generation else 0


def generation_of(rule: layout.Rule) -> int:
    """Return the generation under which a free slot was last armed, 0 if never; arming always sets `limit`."""
    return int(rule.limit) >> layout.GENERATION_SHIFT


def evidence_of(rule: layout.Rule, generation: int) -> dict[str, int | float | str]:
    """Return the counters of a slot under the names that the faults' evidence has."""
    action = Action(rule.action)
    evidence: dict[str, int | float | str] = {
        "calls_matched": count(rule.matched, generation),
        counter_name(action): count(rule.fired, generation),
    }
    if action is Action.DELAY:
        evidence["delay_s"] = count(rule.used, generation) / 1e9
    if action is Action.ROT:
        evidence["bits_flipped"] = count(rule.used, generation)
    if action is Action.FULL:
        evidence["calls_shortened"] = count(rule.shortened, generation)
        evidence["bytes_written"] = count(rule.used, generation)
    return evidence


def decode(record: layout.Record) -> Injected:
    """Return a record of the control file as an injection."""
    calls = table().calls
    return Injected(
        sequence=record.sequence,
        clock=record.clock,
        time_ns=record.time_ns,
        pid=record.pid,
        rule_id=record.id.decode(errors="replace"),
        action=Action(record.action).name.lower(),
        call=calls[record.call].name,
        path=os.fsdecode(record.tail),
        offset=record.offset if record.offset >= 0 else None,
        size_bytes=record.size,
        amount=record.amount,
        error=errno.errorcode[record.error] if record.error else None,
    )
