"""Whose is it: the harness's mark in names and files, and what became of that harness.

Containers carry the same mark as labels (`chaos.backends.docker.sweep`). A harness is named by its place (machine and
pid namespace), its pid and its start time, because a pid alone comes again, and means nothing elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chaos.backends.docker.sweep import place, start_time

State = Literal["dead", "alive", "elsewhere"]
"""What became of an owner; "elsewhere": its process is not one that can be looked for from here."""

PREFIX = "chaos"
OWNER_FILE = "owner"
"""In a run's live data: the owner's mark."""

OWNER_VARIABLE = "CHAOS_OWNER"
"""In the environment of the processes under test, and so of all that they start: the owner's mark."""

CLOSED = "closed"
"""Name, after the owner's prefix, of the toxic that notes who closed somebody else's proxy."""

_NAME = re.compile(rf"{PREFIX}\.([0-9a-f]{{8}})\.(\d+)\.(\d+)\.(.+)", re.DOTALL)
_MARK = re.compile(r"([0-9a-f]{8})\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Owner:
    """A harness process: eight digits that stand for its place, its pid and its start time."""

    place: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Owner:
        """Return the owner that this process is."""
        return cls(_here(), os.getpid(), start_time(os.getpid()) or "0")

    @classmethod
    def parse(cls, mark: str) -> Owner | None:
        """Return the owner whose `mark` it is; None for any other text."""
        found = _MARK.fullmatch(mark.strip())
        return cls(found[1], int(found[2]), found[3]) if found else None

    @property
    def mark(self) -> str:
        """The owner in one word: `<place>.<pid>.<start time>`."""
        return f"{self.place}.{self.pid}.{self.started}"

    @property
    def prefix(self) -> str:
        """What the names of all that this owner makes begin with."""
        return f"{PREFIX}.{self.mark}."

    @property
    def state(self) -> State:
        """What became of it."""
        if self.place != _here():
            return "elsewhere"
        return "alive" if start_time(self.pid) == self.started else "dead"


def own_name(*parts: str) -> str:
    """Return a name for something that this process makes: the owner's prefix and `parts`, joined by dots."""
    return Owner.this().prefix + ".".join(parts)


def owner_of(name: str) -> Owner | None:
    """Return the owner in a name made by `own_name`; None for anybody else's name."""
    found = _NAME.fullmatch(name)
    return Owner(found[1], int(found[2]), found[3]) if found else None


def owner_in(folder: Path) -> Owner | None:
    """Return the owner whose file is in `folder`; None when there is none that can be read."""
    try:
        return Owner.parse((folder / OWNER_FILE).read_text())
    except (OSError, ValueError):
        return None


def _here() -> str:
    return hashlib.sha256(place().encode()).hexdigest()[:8]
