"""What strace can do of a file fault, as words of its command line, and what its log says was done. Pure.

strace(1) makes system calls fail, wait or kill, or answers in their place (`-e inject`). It changes no data, draws
nothing from a seed, and counts the calls of each thread by itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chaos.faults.disk.calls import table
from chaos.faults.disk.layout import Action
from chaos.faults.disk.rules import counter_name

_KERNEL_NAMES: dict[str, tuple[str, ...]] = {
    "open": ("open", "openat", "openat2"),
    "openat": ("openat", "openat2"),
    "creat": ("creat", "open", "openat"),
    "fopen": ("open", "openat"),
    "mkstemp": ("open", "openat"),
    "mkostemp": ("open", "openat"),
    "mkstemps": ("open", "openat"),
    "mkostemps": ("open", "openat"),
    "pread": ("pread64",),
    "pwrite": ("pwrite64",),
    "sync_file_range": ("sync_file_range", "sync_file_range2"),
    "posix_fallocate": ("fallocate",),
    "rename": ("rename", "renameat", "renameat2"),
    "unlink": ("unlink", "unlinkat"),
    "remove": ("unlink", "unlinkat", "rmdir"),
    "rmdir": ("rmdir", "unlinkat"),
    "mkdir": ("mkdir", "mkdirat"),
    "mkdtemp": ("mkdir", "mkdirat"),
    "link": ("link", "linkat"),
    "symlink": ("symlink", "symlinkat"),
}
"""System calls behind a libc call, where they have another name or several, by C library and machine."""

_LINE = re.compile(r"(?P<pid>\d+) +(?P<seconds>\d+\.\d+) (?P<text>.*)")
_BEGUN = re.compile(r"\w+\(")
_DEALT_WITH = re.compile(r"\((?:INJECTED|DELAYED|INJECTED, DELAYED)\)$")
_UNANSWERED = (" = ?", "<unfinished ...>")
_KILLED = "+++ killed by SIGKILL +++"


class Beyond(Exception):
    """strace cannot do this; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Injection:
    """What strace is told. calls: names of system calls; effect: "error=EIO", "signal=KILL" and the like.

    nth, count: which of the matching calls of a thread, as for the shim; `count` 0 means all from the nth on.
    """

    action: Action
    calls: tuple[str, ...]
    effect: str
    nth: int
    count: int

    def arguments(self) -> list[str]:
        """Return the options that filter the calls and act on them; a call that this machine lacks is passed over."""
        calls = ",".join(f"?{name}" for name in self.calls)
        match self.count:
            case 0:
                when = f"{self.nth}+"
            case 1:
                when = str(self.nth)
            case _:
                when = f"{self.nth}..{self.nth + self.count - 1}"
        return ["-e", f"trace={calls}", "-e", f"inject={calls}:{self.effect}:when={when}"]


def injection_of(rule: Mapping[str, Any]) -> Injection:
    """Return what strace does for a rule, which is one as `Control.arm` takes it. Raises Beyond."""
    if rule.get("probability", 1.0) < 1:
        raise Beyond("strace draws nothing from a seed, so it knows no probability")
    if rule.get("offsets") is not None:
        raise Beyond("strace does not tell calls by their offset in the file")
    action = Action[str(rule["action"]).upper()]
    effect, error = _effect(action, rule)
    return Injection(action, _system_calls(rule["calls"], error), effect, rule.get("nth", 1), rule.get("count", 0))


def _effect(action: Action, rule: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the word for what happens to a call, and the error that it ends with, if any."""
    match action:
        case Action.ERRNO:
            return f"error={rule['error']}", str(rule["error"])
        case Action.SYNC_FAIL if rule.get("pages") == "reverted":
            raise Beyond("strace does not touch what a file holds")
        case Action.SYNC_FAIL:
            return "error=EIO", "EIO"
        case Action.FULL if not rule.get("budget_bytes") and not rule.get("freed_after"):
            return "error=ENOSPC", "ENOSPC"
        case Action.FULL:
            raise Beyond("strace counts no bytes: it can fill a disk at once (budget_bytes=0), and never free it")
        case Action.DELAY if rule.get("spread", "none") != "none" or rule.get("s_per_mib"):
            raise Beyond("strace knows delays of one length only")
        case Action.DELAY:
            return f"delay_enter={round(float(rule['delay_s']) * 1e6)}", None
        case Action.LIE if set(rule["calls"]) == {"sync"}:
            return "retval=0", None
        case Action.KILL:
            return "signal=KILL", None
        case Action.KILL_AFTER | Action.KILL_ALL | Action.KILL_ALL_AFTER:
            raise Beyond("strace kills one process, and before the call")
        case _:
            raise Beyond("strace does not touch what a call reads or writes")


def _system_calls(names: Iterable[str], error: str | None) -> tuple[str, ...]:
    """Return the system calls behind libc calls and families; with `error`, only of those that can fail with it."""
    mask = table().mask(names, error)
    calls = [call for call in table().calls if mask >> call.bit & 1]
    return tuple(dict.fromkeys(name for call in calls for name in _KERNEL_NAMES.get(call.name, (call.name,))))


@dataclass(frozen=True)
class Traced:
    """What a log says: calls that matched, those that were dealt with, processes killed, and the last blow.

    `struck_s` is seconds since the epoch, None when there was none.
    """

    matched: int = 0
    fired: int = 0
    struck_s: float | None = None

    def __add__(self, other: Traced) -> Traced:
        """Add up two logs."""
        moments = [at for at in (self.struck_s, other.struck_s) if at is not None]
        return Traced(self.matched + other.matched, self.fired + other.fired, max(moments, default=None))

    def evidence(self, action: Action) -> dict[str, int | float | str]:
        """Return the counters under the names that the faults' evidence has."""
        return {"calls_matched": self.matched, counter_name(action): self.fired}


def read_log(lines: Iterable[str], injection: Injection) -> Traced:
    """Read what one strace wrote with `-f -ttt -s 0`. A line cut off by its end is passed over."""
    kills = injection.action is Action.KILL
    matched, fired, struck_s = 0, 0, None
    begun: Counter[str] = Counter()
    cut_off: set[str] = set()
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        pid, text = found["pid"], found["text"].rstrip()
        if _BEGUN.match(text):
            matched += 1
            begun[pid] += 1
        if kills and text == _KILLED:
            # All threads end with their process; the one that never got through its nth call is the cause.
            hit = not fired and pid in cut_off and begun[pid] == injection.nth
        else:
            hit = not kills and _DEALT_WITH.search(text) is not None
        if hit:
            fired, struck_s = fired + 1, float(found["seconds"])
        (cut_off.add if text.endswith(_UNANSWERED) else cut_off.discard)(pid)
    return Traced(matched, fired, struck_s)
