"""What all file faults share. Each arms one rule of the shim and heals by disarming it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.faults.base import Evidence, Fault, Injection, Levers
from chaos.faults.disk.calls import ERRORS, table
from chaos.faults.disk.layout import COUNT_MAX, GLOB_BYTES, PLACE_MAX
from chaos.faults.disk.tracing import Beyond, injection_of

Calls = str | tuple[str, ...]
"""What calls a fault means: families such as "write" and "sync", or libc calls such as "fdatasync"; see
docs/reference/shim-calls.md."""

_STORE_NAME_BYTES_MAX = 64


def names_of(call: Calls) -> tuple[str, ...]:
    """Return `call` as a tuple of names, whichever way it was written."""
    return (call,) if isinstance(call, str) else tuple(call)


@dataclass(frozen=True)
class DiskFault(Fault):
    """Base of the file faults: a shim rule on the files of one store, named as in the experiment.

    `probability` is that of a call whose turn it is, drawn from the fault's stream of the run seed. `offsets` limits
    the fault to calls on bytes of the file from the first number to before the second, None being its end.
    """

    store: str
    probability: float = field(default=1.0, kw_only=True)
    offsets: tuple[int, int | None] | None = field(default=None, kw_only=True)

    @property
    def bounded(self) -> bool:
        """Whether the rule acts on a counted number of calls."""
        return bool(self.action().get("count"))

    def action(self) -> dict[str, Any]:
        """Return what this kind of fault adds to the rule."""
        raise NotImplementedError

    def rule(self) -> dict[str, Any]:
        """Return the rule to arm but for its seed; see `chaos.faults.disk.control.Control.arm`."""
        offsets = None if self.offsets is None else [self.offsets[0], self.offsets[1] or PLACE_MAX]
        return {**self.action(), "probability": self.probability, "offsets": offsets}

    def turns(self) -> dict[str, Any]:
        """Return the part of a rule that says on which files and at whose turn it acts, from attributes so named."""
        names = [name for name in ("path", "nth", "count") if hasattr(self, name)]
        return {name: getattr(self, name) for name in names}

    def arguments(self) -> dict[str, Any]:
        """Return the declared parameters: the store and the rule."""
        return {"store": self.store, **{name: value for name, value in self.rule().items() if name != "action"}}

    def refused_by(self, provider: str) -> str | None:
        """Refuse a server in a container, whose process is none of ours, and what strace cannot do."""
        if provider == "strace":
            return self._beyond_strace()
        if provider == "docker" and self.store == "redis":
            return "the file shim is not loaded into a server in a container"
        return None

    async def inject(self, levers: Levers, fault_id: str, rng: Random) -> Injection:
        """Arm the rule; it acts from the next matching call on.

        Raises EnvironmentUnavailable when nothing reaches the store's processes. Cancellation: `heal` clears what
        was begun.
        """
        await levers.disk(self.store).arm(fault_id, {**self.rule(), "seed": rng.getrandbits(64)})
        return Injection(fault_id, state={"armed": True})

    async def heal(self, levers: Levers, injection: Injection) -> Evidence:
        """Disarm the rule and return its counters; calls that it delays wake within milliseconds."""
        injection.evidence.update(await levers.disk(self.store).disarm(injection.fault_id))
        return injection.evidence

    def _beyond_strace(self) -> str | None:
        if any(self.problems()):
            return None  # told elsewhere, and not to be translated
        try:
            injection_of(self.rule())
        except Beyond as error:
            return str(error)
        return None

    def _bad_place(self, path: object) -> Iterator[Problem]:
        """Yield the mistakes in `store`, `path`, `probability` and `offsets`, which all file faults have."""
        yield from self.bad_number("probability", 1e-9, 1.0)
        yield from self._bad_offsets()
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

    def _bad_offsets(self) -> Iterator[Problem]:
        match self.offsets:
            case None:
                return
            case (int() as first, int() | None as end) if 0 <= first < (PLACE_MAX if end is None else end) <= PLACE_MAX:
                return
        yield self.problem(
            f"offsets={self.offsets!r}) must be two places in a file, the first before the second",
            "write (first, end), or (first, None) for all from there on",
            "out-of-range",
        )

    def _bad_turns(self) -> Iterator[Problem]:
        """Yield the mistakes in `nth` and `count`, of the faults that have both."""
        yield from self._bad_whole_number("nth", 1)
        yield from self._bad_whole_number("count", 0)

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
