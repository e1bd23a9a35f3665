"""How a state was made, in one word that makes it again: `412:Wr:ext4:3`, and for recoveries `412:P>17:Ws:posix`.

The first number is the boundary: how many operations had been done. The kinds:

    P    everything so far: a process crash
    Pt   the same, the last write cut at a page: `412:Pt:8192` kept the first 8192 bytes
    Ws   only what was synced: power loss
    Wt   everything, the last write torn: `412:Wt:+1024` kept the first 1024 bytes, `412:Wt:-1024` lacks them
    Wr   a random part of what was not synced; the number, the seed and the boundary draw it
    W    the same written out: `412:W:posix:401,407[4096-4608]` lacks operation 401 and those bytes of 407
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chaos.crashpoints.content import Missing, Range
from chaos.crashpoints.names import View

KINDS = ("P", "Pt", "Ws", "Wt", "Wr", "W")
_PART = re.compile(r"^(\d+)(?:\[([\d,-]+)\])?$")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One state. view: of Ws, Wr and W. number: bytes for Pt and Wt, which draw for Wr. missing: of W."""

    boundary: int
    kind: str
    view: View | None = None
    number: int = 0
    missing: tuple[tuple[int, tuple[Range, ...] | None], ...] = ()

    @property
    def is_power_loss(self) -> bool:
        """Whether it takes more than the end of a process to come about."""
        return self.kind.startswith("W")

    def __str__(self) -> str:
        """Return the word; `parse` reads it."""
        parts = [str(self.boundary), self.kind]
        if self.view is not None:
            parts.append(str(self.view))
        if self.kind == "Wt":
            parts.append(f"{self.number:+d}")
        elif self.kind in ("Pt", "Wr"):
            parts.append(str(self.number))
        elif self.kind == "W":
            parts.append(",".join(_part(index, ranges) for index, ranges in self.missing))
        return ":".join(parts)


def explicit(boundary: int, view: View, missing: Missing) -> Recipe:
    """Return the recipe of kind W that lacks `missing`."""
    return Recipe(boundary, "W", view, 0, tuple(sorted(missing.items(), key=lambda item: item[0])))


def parse(text: str) -> tuple[Recipe, ...]:
    """Read a word: the state, and those of recoveries from it. Raises ValueError."""
    return tuple(_parse_one(part) for part in text.split(">"))


def _parse_one(text: str) -> Recipe:
    parts = text.strip().split(":")
    try:
        boundary, kind = int(parts[0]), parts[1]
        match kind, len(parts):
            case "P", 2:
                return Recipe(boundary, kind)
            case (("Pt" | "Wt"), 3):
                return Recipe(boundary, kind, None, int(parts[2]))
            case "Ws", 3:
                return Recipe(boundary, kind, View(parts[2]))
            case "Wr", 4:
                return Recipe(boundary, kind, View(parts[2]), int(parts[3]))
            case "W", 4:
                return explicit(boundary, View(parts[2]), dict(_read_parts(parts[3])))
    except (ValueError, IndexError):
        pass
    raise ValueError(f"state={text!r} must look like 412:P, 412:Ws:posix or 412:Wr:ext4:3")


def _part(index: int, ranges: tuple[Range, ...] | None) -> str:
    if ranges is None:
        return str(index)
    return f"{index}[{','.join(f'{low}-{high}' for low, high in ranges)}]"


def _read_parts(text: str) -> list[tuple[int, tuple[Range, ...] | None]]:
    found: list[tuple[int, tuple[Range, ...] | None]] = []
    for part in re.findall(r"\d+(?:\[[^\]]*\])?", text):
        match = _PART.match(part)
        if match is None:
            raise ValueError(part)
        ranges = None
        if match[2]:
            pairs = [piece.split("-") for piece in match[2].split(",")]
            ranges = tuple((int(low), int(high)) for low, high in pairs)
        found.append((int(match[1]), ranges))
    return found
