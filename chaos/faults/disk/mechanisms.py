"""How file faults reach a store's process: by the preloaded shim, by strace where that cannot be, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chaos.errors import EnvironmentUnavailable
from chaos.faults.disk import library, strace

PRELOAD, STRACE, NONE = "preload", "strace", "none"

_MAGIC = b"\x7fELF"
_PT_INTERP = 3
_TABLES = {1: (slice(28, 32), slice(42, 44), slice(44, 46)), 2: (slice(32, 40), slice(54, 56), slice(56, 58))}
"""Where the head of an ELF file of 32 or 64 bits has the place of its program table, its entries' size and number."""


@dataclass(frozen=True)
class Mechanism:
    """name: "preload", "strace" or "none". reason: why it is not preload; empty for that."""

    name: str
    reason: str = ""

    def __str__(self) -> str:
        """Return both in words."""
        return f"{self.name} ({self.reason})" if self.reason else self.name


def choose(asked: str, stores: Iterable[str], server: Path | None) -> dict[str, Mechanism]:
    """Return the mechanism for each store.

    asked: "auto", "preload" or "strace". server: the program of Redis where it is ours. "auto" preloads where that
    works; where nothing does, the mechanism is "none", with the reasons. What was asked for by name and cannot be had
    raises EnvironmentUnavailable.
    """
    return {store: _mechanism(asked, _program(store, server)) for store in stores}


def _program(store: str, server: Path | None) -> Path | None:
    return server if store == "redis" else Path(sys.executable)


def _mechanism(asked: str, program: Path | None) -> Mechanism:
    against = _against_preload(program)
    if asked == PRELOAD and against:
        raise EnvironmentUnavailable(f"--files preload cannot be done: {against}", "use --files strace")
    if asked != STRACE and not against:
        return Mechanism(PRELOAD)
    able, reason = strace.available()
    if able:
        return Mechanism(STRACE, "asked for" if asked == STRACE else against)
    if asked == STRACE:
        raise EnvironmentUnavailable(f"--files strace cannot be done: {reason}", "install strace, or use another way")
    return Mechanism(NONE, f"{against}; and {reason}")


def _against_preload(program: Path | None) -> str:
    """Return why the shim cannot be loaded into `program`; empty when it can."""
    available, reason = library.available()
    if not available:
        return reason
    if program is not None and is_static(program):
        return f"{program.name} is linked statically, so nothing can be preloaded into it"
    return ""


def is_static(program: Path) -> bool:
    """Tell whether `program` is an ELF file that names no dynamic loader; False for what is absent, too."""
    try:
        with program.open("rb") as file:
            head = file.read(64)
            if head[:4] != _MAGIC or len(head) < 64:
                return False
            order: Literal["little", "big"] = "big" if head[5] == 2 else "little"
            start, size, count = (int.from_bytes(head[place], order) for place in _TABLES[head[4]])
            file.seek(start)
            table = file.read(size * count)
    except (OSError, KeyError):
        return False
    kinds = [int.from_bytes(table[at : at + 4], order) for at in range(0, len(table), size or 1)]
    return bool(kinds) and _PT_INTERP not in kinds
