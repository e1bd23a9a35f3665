"""Driving the file shim: the control file that the harness edits while victims run under it.

Several processes may hold the same file open: the harness arms and disarms, a worker reads counters. Changes of
rules are serialised by a lock on the file; victims take no lock and are never held up. Nothing here waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaos.errors import HarnessError
from chaos.faults.base import Evidence
from chaos.faults.disk import layout
from chaos.faults.disk.layout import Action
from chaos.faults.disk.oplog import Kind
from chaos.faults.disk.rules import DECLARED_FIELDS, Injected, count, decode, encode, evidence_of, generation_of, within

_HARMLESS = (0, Kind.SYNC, Kind.SYNC_RANGE, Kind.SYNC_ALL, Kind.SYNC_FAILED, Kind.CLOSE)
"""Kinds of calls of which a file shows nothing."""

_ID_BITS, _ID_MASK = 22, (1 << 22) - 1
"""Of the word of the recording lock, see shim/lock.c."""

_APPENDING_S = 1.0
"""How long a live process may take to append a record; one that is stopped takes for ever."""


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
        _demand_outside("control", path, real)
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
        return pid in self.attached_pids()

    def attached_pids(self) -> tuple[int, ...]:
        """Return the last `layout.PID_COUNT` processes that loaded the shim; most may have ended by now."""
        return tuple(entry & 0xFFFFFFFF for entry in self._file.pids[: min(self.attached, layout.PID_COUNT)])

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
        glob on the root-relative name: `*` any characters, `/` too, `?` one), and what the action needs, see
        `rules.encode`; optionally "nth" and "count" (0 = all), "probability" with "seed", and "offsets".

        Raises ValueError for a value out of range, HarnessError when the id is in use or no slot is free.
        """
        entry = encode(rule_id, rule)
        action = Action(entry.action)
        with self._lock():
            if self._find(rule_id) is not None:
                raise HarnessError(f"shim rule {rule_id!r} is armed already")
            slot = next((slot for slot, taken in enumerate(self._file.rules) if not taken.generation), None)
            if slot is None:
                raise HarnessError(f"shim rule {rule_id!r}: all {layout.RULE_COUNT} slots are in use")
            target = self._file.rules[slot]
            # The counters remember the slot's last generation, so the next one is always new to the victims too.
            generation = (generation_of(target) % layout.GENERATION_MAX) + 1
            for name in DECLARED_FIELDS:
                setattr(target, name, getattr(entry, name))
            target.checksum = layout.checksum(target, generation)
            budget = int(rule.get("budget_bytes", 0)) if action is Action.FULL else 0
            target.limit = generation << layout.GENERATION_SHIFT | budget
        with self._lock():  # a second time: the stores above must be seen before the one that arms
            target.generation = generation
            self._file.armed |= 1 << slot
            self._file.edits += 1

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
            evidence = evidence_of(rule, rule.generation)
            self._file.armed &= ~(1 << slot)
            rule.generation = 0
            self._file.edits += 1
            return evidence

    def evidence(self, rule_id: str) -> dict[str, int | float | str]:
        """Return the counters of an armed rule without disarming it; {} when no such rule is armed."""
        slot = self._find(rule_id)
        if slot is None:
            return {}
        rule = self._file.rules[slot]
        return evidence_of(rule, rule.generation)

    def fired(self, rule_id: str) -> int:
        """How many calls an armed rule has acted on (for "count": how many succeeded); 0 when not armed."""
        slot = self._find(rule_id)
        if slot is None:
            return 0
        rule = self._file.rules[slot]
        return count(rule.fired, rule.generation)

    def set_budget(self, rule_id: str, budget_bytes: int) -> None:
        """Change the budget of an armed "full" rule, counted from its arming. Raises HarnessError if not armed."""
        with self._lock():
            slot = self._find(rule_id)
            if slot is None or self._file.rules[slot].action != Action.FULL:
                raise HarnessError(f"shim rule {rule_id!r} is not an armed disk-full rule")
            budget = within("budget_bytes", budget_bytes, 0, layout.COUNT_MAX)
            rule = self._file.rules[slot]
            rule.limit = rule.generation << layout.GENERATION_SHIFT | budget

    def armed_ids(self) -> tuple[str, ...]:
        """Return the ids of the armed rules, in slot order."""
        return tuple(rule.id.decode() for rule in self._file.rules if rule.generation)

    def record(self, path: Path | str) -> None:
        """Have every change that victims make below the root recorded in a new file, see `chaos.faults.disk.oplog`.

        Begin before the victims start, or while none is within a call: what was begun earlier may end unrecorded.
        Raises HarnessError when a log is kept already, when the file exists, lies below the root or cannot be made.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links
        _demand_outside("log", path, Path(os.fsdecode(self._file.root)))
        name = os.fsencode(path)
        if len(name) >= layout.ROOT_BYTES:
            raise HarnessError(f"shim log={str(path)!r} must be shorter than {layout.ROOT_BYTES} bytes")
        with self._lock():
            if self._file.recording:
                raise HarnessError(f"shim log={str(path)!r}: a log is kept already")
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except OSError as error:
                raise HarnessError(f"shim log={str(path)!r} cannot be created: {error.strerror}") from error
            self._file.log = name
            self._file.log_bytes = self._file.log_written = self._file.log_behind = self._file.lost = (
                self._file.waiters
            ) = 0
            self._file.recordings += 1
        with self._lock():  # a second time: the stores above must be seen before the one that switches on
            self._file.recording = self._file.recordings

    def stop_recording(self) -> None:
        """End the log, and write out what is not in its file yet; idempotent.

        A call that a victim is in the middle of ends without a record, or with one when it is about to append it: that
        is waited for. Raises HarnessError when records were lost, because the disk of the log was full or its file out
        of reach.
        """
        with self._lock():
            self._file.recording = 0
        deadline = time.monotonic() + _APPENDING_S
        while self._file.holder and _lives(self._file.holder) and time.monotonic() < deadline:
            time.sleep(0.001)
        self.write_out()
        if self._file.lost:
            log, lost = os.fsdecode(self._file.log), self._file.lost
            raise HarnessError(f"shim log={log!r} lost {lost} records and ended there")

    def write_out(self) -> None:
        """Bring the log's file up to date, as `stop_recording` does; only while no victim is within a call.

        Cuts off what a killed process left behind the last whole record. A file that cannot be written counts as lost.
        """
        with self._lock():
            self._write_tail()

    def _write_tail(self) -> None:
        end, at = self._file.log_bytes, min(self._file.log_written, self._file.log_bytes)
        if self._file.log_written == end:
            return
        try:
            descriptor = os.open(os.fsdecode(self._file.log), os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            self._file.lost += 1
            return
        try:
            ring = memoryview(self._file.log_tail)
            while at < end:
                place = at % layout.LOG_TAIL_BYTES
                at += os.pwrite(descriptor, ring[place : place + end - at], at)
            self._file.log_written = at
            os.ftruncate(descriptor, end)
        except OSError:
            self._file.lost += 1
        finally:
            os.close(descriptor)

    def in_flight(self) -> bool:
        """Whether a process died within a call that changes something: the files may hold it, and the log does not.

        To be asked when all processes are dead. A sync is none: to take it for never made is safe.
        """
        return int(self._file.pending) not in _HARMLESS

    def forget_dead(self) -> None:
        """Take the recording lock from a dead process; only while no process is under the shim.

        Otherwise the next process would find the lock held, and a call of the dead unfinished in a log of its own.
        """
        with self._lock():
            self._file.pending = self._file.log_behind = self._file.waiters = self._file.holder = 0

    @property
    def recording(self) -> bool:
        """Whether a log is kept; a victim that cannot write its records ends it for all."""
        return bool(self._file.recording)

    def records(self) -> tuple[Injected, ...]:
        """Return the injections recorded so far, oldest first; at most the last `layout.RECORD_COUNT`.

        A record that a victim is writing at this moment, or never finished, is left out.
        """
        total = int(self._file.recorded)
        found = []
        for sequence in range(max(0, total - layout.RECORD_COUNT) + 1, total + 1):
            record = layout.Record.from_buffer_copy(self._file.records[(sequence - 1) % layout.RECORD_COUNT])
            if record.sequence == sequence:
                found.append(decode(record))
        return tuple(found)


def _lives(holder: int) -> bool:
    """Tell whether the thread that holds the recording lock by this word is there and not dead."""
    thread, pid = (holder >> shift & _ID_MASK for shift in (0, _ID_BITS))
    try:
        state = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _demand_outside(what: str, path: Path, root: Path) -> None:
    """Refuse a file of the harness's own where it would be a file in scope."""
    if Path(os.path.realpath(path)).is_relative_to(root):
        raise HarnessError(f"shim {what}={str(path)!r} must lie outside the shim root {str(root)!r}")


class StoreDisk:
    """The `DiskLever` of one store: rules whose paths are taken relative to the store's folder below the root."""

    def __init__(self, control: Control, store: str) -> None:
        """Speak for `store`, whose files lie in the folder of that name."""
        self._control = control
        self._store = store

    async def arm(self, fault_id: str, rule: Mapping[str, Any]) -> None:
        """Arm a rule for files of this store; see `Control.arm`. Never waits."""
        self._control.arm(fault_id, {**rule, "path": f"{self._store}/{rule.get('path', '*')}"})

    async def disarm(self, fault_id: str) -> Evidence:
        """Disarm it and return its counters; {} when it is not armed. Never waits."""
        return self._control.disarm(fault_id)
