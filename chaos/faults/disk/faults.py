"""The file faults: what a user declares. Each arms one rule of the shim and heals by disarming it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers
from chaos.faults.disk.calls import ERRORS, table
from chaos.faults.disk.layout import COUNT_MAX, GLOB_BYTES

Calls = str | tuple[str, ...]
"""What calls a fault means: families such as "write" and "sync", or libc calls such as "fdatasync"; see
docs/reference/shim-calls.md."""

_WRITES_AND_ALLOCATIONS = ("write", "allocate")
_STORE_NAME_BYTES_MAX = 64


def names_of(call: Calls) -> tuple[str, ...]:
    """Return `call` as a tuple of names, whichever way it was written."""
    return (call,) if isinstance(call, str) else tuple(call)


@dataclass(frozen=True)
class DiskFault(Fault):
    """Base of the file faults: a shim rule on the files of one store, named as in the experiment."""

    store: str

    @property
    def bounded(self) -> bool:
        """Whether the rule acts on a counted number of calls."""
        return bool(self.rule().get("count"))

    def rule(self) -> dict[str, Any]:
        """Return the rule to arm; see `chaos.faults.disk.control.Control.arm`."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """Return the declared parameters: the store and the rule."""
        return {"store": self.store, **{name: value for name, value in self.rule().items() if name != "action"}}

    def refused_by(self, provider: str) -> str | None:
        """Refuse a server in a container: the shim is loaded into processes of ours only."""
        if provider == "docker" and self.store == "redis":
            return "the file shim is not loaded into a server in a container"
        return None

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Arm the rule; it acts from the next matching call on.

        Raises EnvironmentUnavailable when the store's processes run without the shim. Never waits, so there
        is nothing to cancel half-way.
        """
        levers.disk(self.store).arm(fault_id, self.rule())
        return Injection(fault_id, state={"armed": True})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Disarm the rule and return its counters; calls that it delays wake within milliseconds."""
        injection.evidence.update(levers.disk(self.store).disarm(injection.fault_id))
        return injection.evidence

    def _bad_place(self, path: object) -> Iterator[Problem]:
        """Yield the mistakes in `store` and `path`, which all file faults have."""
        if not isinstance(self.store, str) or not self.store:
            yield self.problem(f"store={self.store!r}) must be the name of a store", "name the store", "not-a-store")
        room = GLOB_BYTES - _STORE_NAME_BYTES_MAX - 2
        if not isinstance(path, str) or not 1 <= len(path.encode()) <= room or "\0" in path:
            yield self.problem(
                f"path={path!r}) must be a glob of 1 to {room} bytes",
                'write a glob on the name below the store\'s folder, such as "*-wal"',
                "bad-glob",
            )
        elif path.startswith("/") or ".." in path.split("/"):
            yield self.problem(
                f"path={path!r}) must be relative to the store's folder",
                'write a glob on the name below the store\'s folder, such as "*-wal"',
                "bad-glob",
            )

    def _bad_calls(self, call: object, error: str | None = None) -> Iterator[Problem]:
        """Yield the mistakes in `call`, and those calls that can never fail with `error`."""
        names = (call,) if isinstance(call, str) else call
        if not isinstance(names, tuple) or not names:
            yield self.problem(
                f"call={call!r}) must be a name or a tuple of names",
                f"use {', '.join(table().families)}",
                "unknown-call",
            )
            return
        for name in names:
            found = table().find(name) if isinstance(name, str) else ()
            if not found:
                yield self.problem(
                    f"call={name!r}) is not a call the shim hooks",
                    f"use {', '.join(table().families)}, or a call of docs/reference/shim-calls.md",
                    "unknown-call",
                )
            elif error in ERRORS and not any(error in each.errors for each in found):
                able = tuple(dict.fromkeys(code for each in found for code in each.errors))
                yield self.problem(
                    f"error={error!r}) cannot come from call={name!r}, by {found[0].manual}",
                    f"use one of {', '.join(able)}, or another call",
                    "error-not-from-call",
                )

    def _bad_whole_number(self, name: str, low: int) -> Iterator[Problem]:
        """Yield a problem unless attribute `name` is a whole number of at least `low` that a rule can hold."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= COUNT_MAX:
            yield self.problem(
                f"{name}={value!r}) must be a whole number between {low} and {COUNT_MAX}",
                f"change {name}",
                "out-of-range",
            )


@dataclass(frozen=True)
class DiskError(DiskFault):
    """Make file calls fail with `error`; they are not executed.

    `error` is one of `chaos.faults.disk.calls.ERRORS` that the calls can report. The `nth` matching call after
    injection fails (1-based) and the `count` - 1 that follow it; `count=0` means all from there on. `call` names
    families or calls, `path` is a glob on names below the store's folder.
    """

    error: str = "EIO"
    call: Calls = "write"
    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.error"
    bites: ClassVar[tuple[str, ...]] = ("calls_failed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self.bad_choice("error", ERRORS, "unknown-error")
        yield from self._bad_calls(self.call, self.error)
        yield from self._bad_whole_number("nth", 1)
        yield from self._bad_whole_number("count", 0)

    def rule(self) -> dict[str, Any]:
        """Return the rule to arm."""
        return {
            "action": "errno",
            "error": self.error,
            "calls": list(names_of(self.call)),
            "path": self.path,
            "nth": self.nth,
            "count": self.count,
        }


@dataclass(frozen=True)
class DiskFull(DiskFault):
    """Let `budget_bytes` more bytes be written, then fail writes and allocations with ENOSPC until healed.

    The write at the edge is cut short, as a real full disk does. Overwriting uses up the budget like growing.
    """

    budget_bytes: int = 0
    path: str = "*"

    kind: ClassVar[str] = "disk.full"
    bites: ClassVar[tuple[str, ...]] = ("calls_failed", "calls_shortened")
    stops_work: ClassVar[bool] = True

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_whole_number("budget_bytes", 0)

    def rule(self) -> dict[str, Any]:
        """Return the rule to arm."""
        return {
            "action": "full",
            "budget_bytes": self.budget_bytes,
            "calls": list(_WRITES_AND_ALLOCATIONS),
            "path": self.path,
        }


@dataclass(frozen=True)
class DiskDelay(DiskFault):
    """Sleep for `delay` before each matching call, at most one minute; the thread that calls is blocked."""

    delay: Duration
    call: Calls = "sync"
    path: str = "*"

    kind: ClassVar[str] = "disk.delay"
    bites: ClassVar[tuple[str, ...]] = ("calls_delayed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_calls(self.call)
        yield from self.bad_duration("delay", low_s=1e-6, high_s=60.0)

    def rule(self) -> dict[str, Any]:
        """Return the rule to arm."""
        return {
            "action": "delay",
            "delay_s": seconds(self.delay),
            "calls": list(names_of(self.call)),
            "path": self.path,
        }


@dataclass(frozen=True)
class ShortWrite(DiskFault):
    """Write only the first `keep_bytes` bytes and return that number, without an error.

    Writes of at most `keep_bytes` bytes are left alone and not counted. A correct program writes the rest.
    """

    keep_bytes: int
    path: str = "*"
    nth: int = 1
    count: int = 1

    kind: ClassVar[str] = "disk.short_write"
    bites: ClassVar[tuple[str, ...]] = ("calls_shortened",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_whole_number("keep_bytes", 1)
        yield from self._bad_whole_number("nth", 1)
        yield from self._bad_whole_number("count", 0)

    def rule(self) -> dict[str, Any]:
        """Return the rule to arm."""
        return {
            "action": "short",
            "keep_bytes": self.keep_bytes,
            "calls": ["write"],
            "path": self.path,
            "nth": self.nth,
            "count": self.count,
        }


@dataclass(frozen=True)
class KillAtCall(DiskFault):
    """SIGKILL the process that makes the `nth` matching call, once: before the call, or with `after` behind it.

    It is armed until healed, and kills one process however long that is.
    """

    call: Calls
    path: str = "*"
    nth: int = 1
    after: bool = False

    kind: ClassVar[str] = "disk.kill"
    bites: ClassVar[tuple[str, ...]] = ("processes_killed",)

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake in the parameters."""
        yield from self._bad_place(self.path)
        yield from self._bad_calls(self.call)
        yield from self._bad_whole_number("nth", 1)
        if not isinstance(self.after, bool):
            yield self.problem(f"after={self.after!r}) must be True or False", "change after", "not-a-choice")

    def rule(self) -> dict[str, Any]:
        """Return the rule to arm."""
        return {
            "action": "kill_after" if self.after else "kill",
            "calls": list(names_of(self.call)),
            "path": self.path,
            "nth": self.nth,
            "count": 1,
        }
