"""Driving the file shim: the control file that the harness edits while victims run under it.

Several processes may hold the same file open: the harness arms and disarms, a worker reads counters. Changes of
rules are serialised by a lock on the file; victims take no lock and are never held up. Nothing here waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos.errors import HarnessError
from chaos.faults.base import Evidence
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
}

_AMOUNTS = {Action.DELAY: "delay_s", Action.SHORT: "keep_bytes"}


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


class Control:
    """A control file, open and mapped. Close it, or use it as a context manager; closing disarms nothing."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Map the file behind `descriptor`, which this object then owns; use `create` or `attach` instead."""
        self.path = path
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, ctypes.sizeof(layout.File))
        self._file = layout.File.from_buffer(self._memory)

    @classmethod
    def create(cls, path: Path | str, root: Path | str) -> Control:
        """Make the control file of a run; files below `root`, an existing folder, are in scope.

        The file itself must lie outside `root`. Raises HarnessError when it exists already, when the folder
        does not, or when the disk refuses.
        """
        path, spelled = Path(path), Path(os.path.abspath(root))  # noqa: PTH100  # resolve() would follow links
        real = Path(os.path.realpath(root))
        if not real.is_dir() or real == Path("/"):
            raise HarnessError(f"shim root={str(root)!r} must be an existing folder other than /")
        if Path(os.path.realpath(path)).is_relative_to(real):
            raise HarnessError(f"shim control={str(path)!r} must lie outside the shim root {str(real)!r}")
        roots = [os.fsencode(real), os.fsencode(spelled) if spelled != real else b""]
        if max(map(len, roots)) >= layout.ROOT_BYTES:
            raise HarnessError(f"shim root={str(root)!r} must be shorter than {layout.ROOT_BYTES} bytes")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.posix_fallocate(descriptor, 0, ctypes.sizeof(layout.File))
        except OSError as error:
            raise HarnessError(f"shim control={str(path)!r} cannot be created: {error.strerror}") from error
        control = cls(path, descriptor)
        file = control._file
        file.root, file.alias = roots
        file.abi = layout.ABI
        file.total_bytes = ctypes.sizeof(layout.File)
        file.magic = layout.MAGIC  # last: a file that was given up half-way is not a control file
        return control

    @classmethod
    def attach(cls, path: Path | str) -> Control:
        """Open the control file made by `create`. Raises HarnessError when it is missing or another version's."""
        path = Path(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise HarnessError(f"shim control={str(path)!r} cannot be opened: {error.strerror}") from error
        if os.fstat(descriptor).st_size < ctypes.sizeof(layout.File):
            os.close(descriptor)
            raise HarnessError(f"shim control={str(path)!r} is too short to be a control file")
        control = cls(path, descriptor)
        if (control._file.magic, control._file.abi) != (layout.MAGIC, layout.ABI):
            control.close()
            raise HarnessError(f"shim control={str(path)!r} is not a control file of this version")
        return control

    def close(self) -> None:
        """Unmap and close the file; idempotent. Rules stay armed, and victims stay under them."""
        if self._descriptor >= 0:
            del self._file  # the buffer must be free before the map can go
            with contextlib.suppress(BufferError):  # a traceback still holds a slot: the map goes with it
                self._memory.close()
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        """Return the control itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def attached(self) -> int:
        """How many programs have loaded the shim so far; a fork without exec adds nothing."""
        return int(self._file.attached)

    @property
    def clock(self) -> int:
        """How many operations on files in scope all victims have begun."""
        return int(self._file.clock)

    @property
    def source_hash(self) -> str | None:
        """SHA-256, in hex, of the sources of the library that attached last; None before any did."""
        return bytes(self._file.source_sha256).hex() if self.attached else None

    def has_attached(self, pid: int) -> bool:
        """Tell whether process `pid` itself loaded the shim (not merely was forked from one that did).

        Only the last `layout.PID_COUNT` processes are remembered.
        """
        return pid in self._file.pids[: min(self.attached, layout.PID_COUNT)]

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other processes from changing rules. The kernel's locking also orders our stores on weak machines."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _find(self, rule_id: str) -> int | None:
        wanted = rule_id.encode()
        return next(
            (slot for slot, rule in enumerate(self._file.rules) if rule.generation and rule.id == wanted),
            None,
        )

    def arm(self, rule_id: str, rule: Mapping[str, Any]) -> None:
        """Put a rule in a free slot; it acts from the next matching call on.

        `rule` holds "action" (an `Action` in lower case), "calls" (families or names, see `calls.table`), "path" (a
        glob on the root-relative name: `*` any characters, `/` too, `?` one), and as the action needs: "error" (errno),
        "delay_s" (delay), "keep_bytes" (short), "budget_bytes" (full); optionally "nth" and "count" (0 = all).

        Raises ValueError for a value out of range, HarnessError when the id is in use or no slot is free.
        """
        entry = _encode(rule_id, rule)
        action = Action(entry.action)
        with self._lock():
            if self._find(rule_id) is not None:
                raise HarnessError(f"shim rule {rule_id!r} is armed already")
            slot = next((slot for slot, taken in enumerate(self._file.rules) if not taken.generation), None)
            if slot is None:
                raise HarnessError(f"shim rule {rule_id!r}: all {layout.RULE_COUNT} slots are in use")
            target = self._file.rules[slot]
            # The counters remember the slot's last generation, so the next one is always new to the victims too.
            generation = (_generation_of(target) % layout.GENERATION_MAX) + 1
            for name in ("calls", "nth", "count", "amount", "action", "error", "id", "glob"):
                setattr(target, name, getattr(entry, name))
            target.checksum = layout.checksum(target, generation)
            budget = int(rule.get("budget_bytes", 0)) if action is Action.FULL else 0
            target.limit = generation << layout.GENERATION_SHIFT | budget
        with self._lock():  # a second time: the stores above must be seen before the one that arms
            target.generation = generation
            self._file.armed |= 1 << slot

    def disarm(self, rule_id: str) -> dict[str, int | float | str]:
        """Take the rule back and return its counters; {} when no such rule is armed, so it is idempotent.

        A call that a victim had already begun may still be acted on and is then not counted. A victim that
        sleeps because of the rule wakes within a few milliseconds.
        """
        with self._lock():
            slot = self._find(rule_id)
            if slot is None:
                return {}
            rule = self._file.rules[slot]
            evidence = _evidence(rule, rule.generation)
            self._file.armed &= ~(1 << slot)
            rule.generation = 0
            return evidence

    def evidence(self, rule_id: str) -> dict[str, int | float | str]:
        """Return the counters of an armed rule without disarming it; {} when no such rule is armed."""
        slot = self._find(rule_id)
        if slot is None:
            return {}
        rule = self._file.rules[slot]
        return _evidence(rule, rule.generation)

    def fired(self, rule_id: str) -> int:
        """How many calls an armed rule has acted on (for "count": how many succeeded); 0 when not armed."""
        slot = self._find(rule_id)
        if slot is None:
            return 0
        rule = self._file.rules[slot]
        return _count(rule.fired, rule.generation)

    def set_budget(self, rule_id: str, budget_bytes: int) -> None:
        """Change the budget of an armed "full" rule, counted from its arming. Raises HarnessError if not armed."""
        with self._lock():
            slot = self._find(rule_id)
            if slot is None or self._file.rules[slot].action != Action.FULL:
                raise HarnessError(f"shim rule {rule_id!r} is not an armed disk-full rule")
            budget = _within("budget_bytes", budget_bytes, 0, layout.COUNT_MAX)
            rule = self._file.rules[slot]
            rule.limit = rule.generation << layout.GENERATION_SHIFT | budget

    def armed_ids(self) -> tuple[str, ...]:
        """Return the ids of the armed rules, in slot order."""
        return tuple(rule.id.decode() for rule in self._file.rules if rule.generation)

    def records(self) -> tuple[Injected, ...]:
        """Return the injections recorded so far, oldest first; at most the last `layout.RECORD_COUNT`.

        A record that a victim is writing at this moment, or never finished, is left out.
        """
        total = int(self._file.recorded)
        found = []
        for sequence in range(max(0, total - layout.RECORD_COUNT) + 1, total + 1):
            record = layout.Record.from_buffer_copy(self._file.records[(sequence - 1) % layout.RECORD_COUNT])
            if record.sequence == sequence:
                found.append(_decode(record))
        return tuple(found)


class StoreDisk:
    """The `DiskLever` of one store: rules whose paths are taken relative to the store's folder below the root."""

    def __init__(self, control: Control, store: str) -> None:
        """Speak for `store`, whose files lie in the folder of that name."""
        self._control = control
        self._store = store

    def arm(self, fault_id: str, rule: Mapping[str, Any]) -> None:
        """Arm a rule for files of this store; see `Control.arm`."""
        self._control.arm(fault_id, {**rule, "path": f"{self._store}/{rule.get('path', '*')}"})

    def disarm(self, fault_id: str) -> Evidence:
        """Disarm it and return its counters; {} when it is not armed."""
        return self._control.disarm(fault_id)


def _within(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}={value!r} must be a whole number between {low} and {high}")
    return value


def _text(name: str, value: str, room: int) -> bytes:
    data = value.encode()
    if not data or len(data) >= room or b"\0" in data:
        raise ValueError(f"{name}={value!r} must have 1 to {room - 1} bytes and no NUL")
    return data


def _encode(rule_id: str, rule: Mapping[str, Any]) -> layout.Rule:
    """Turn a rule's mapping into a slot's fields. Raises ValueError, naming the field and its bound."""
    name = str(rule.get("action", "")).upper()
    if name not in Action.__members__ or name == Action.NONE.name:
        raise ValueError(f"action={rule.get('action')!r} is not an action")
    action = Action[name]
    calls = rule.get("calls", ())
    error = str(rule["error"]) if action is Action.ERRNO else "ENOSPC" if action is Action.FULL else None
    entry = layout.Rule()
    entry.action = action
    entry.calls = table().mask((calls,) if isinstance(calls, str) else calls, error)
    if not entry.calls:
        raise ValueError(f"calls={calls!r} must name at least one call")
    entry.error = getattr(errno, error) if error else 0
    entry.nth = _within("nth", rule.get("nth", 1), 1, layout.COUNT_MAX)
    entry.count = _within("count", rule.get("count", 0), 0, layout.COUNT_MAX)
    if action is Action.FULL:
        _within("budget_bytes", rule.get("budget_bytes", 0), 0, layout.COUNT_MAX)
    if action is Action.SHORT:
        entry.amount = _within("keep_bytes", rule.get("keep_bytes"), 1, layout.COUNT_MAX)
    if action is Action.DELAY:
        entry.amount = _within("delay_s in ns", round(float(rule["delay_s"]) * 1e9), 0, layout.COUNT_MAX)
    entry.id = _text("id", rule_id, layout.ID_BYTES)
    entry.glob = _text("path", str(rule.get("path", "*")), layout.GLOB_BYTES)
    return entry


def _count(counter: int, generation: int) -> int:
    return counter & layout.COUNT_MAX if counter >> layout.GENERATION_SHIFT == generation else 0


def _generation_of(rule: layout.Rule) -> int:
    """Return the generation under which a free slot was last armed, 0 if never; arming always sets `limit`."""
    return int(rule.limit) >> layout.GENERATION_SHIFT


def _evidence(rule: layout.Rule, generation: int) -> dict[str, int | float | str]:
    action = Action(rule.action)
    evidence: dict[str, int | float | str] = {
        "calls_matched": _count(rule.matched, generation),
        _COUNTER_NAMES[action]: _count(rule.fired, generation),
    }
    if action is Action.DELAY:
        evidence["delay_s"] = _count(rule.used, generation) / 1e9
    if action is Action.FULL:
        evidence["calls_shortened"] = _count(rule.shortened, generation)
        evidence["bytes_written"] = _count(rule.used, generation)
    return evidence


def _decode(record: layout.Record) -> Injected:
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
