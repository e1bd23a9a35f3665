"""The wire journal of a run, read again: which frames belong to which transaction, and which ones were hit.

A request that names a transaction belongs to it, and so does every other request between the MULTI and the EXEC
around it; replies, hits and cuts belong to the request that they are about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.errors import PlanError, Problem

Line = Mapping[str, Any]
FrameId = tuple[int, int]
"""A connection and the number of a request on it."""


@dataclass(frozen=True)
class Wire:
    """A journal. frames: whether requests and replies are in it. tokens: the transaction of each request."""

    lines: tuple[Line, ...] = ()
    frames: bool = False
    tokens: Mapping[FrameId, str] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Sequence[Line]) -> Wire:
        """Put the lines of a journal together."""
        frames = any(line["kind"] == "journal" and line.get("frames") for line in lines)
        return cls(tuple(lines), frames, dict(_owners(lines)))

    @property
    def hits(self) -> tuple[Line, ...]:
        """The frames that rules acted on, in order."""
        return tuple(line for line in self.lines if line["kind"] == "rule")

    def token(self, line: Line) -> str | None:
        """Return the transaction that a line is about; None when it is about none, or nobody knows."""
        frame = frame_of(line)
        return None if frame is None else self.tokens.get(frame)

    def ordinal(self, hit: Line, token: str) -> int:
        """Return which of its transaction's requests of the same command a hit frame is, from 1."""
        frame = frame_of(hit)
        count = 0
        for line in self.lines:
            if line["kind"] == "request" and line.get("command") == hit["command"] and self.token(line) == token:
                count += 1
                if frame_of(line) == frame:
                    break
        return count

    def about(self, token: str) -> tuple[Line, ...]:
        """Return everything that befell the frames of a transaction, cuts of their connections included."""
        found = []
        hit: set[int] = set()
        for line in self.lines:
            if self.token(line) == token:
                found.append(line)
                if line["kind"] == "rule":
                    hit.add(line["connection"])
            elif line.get("connection") in hit and line["kind"] in ("cut", "close"):
                found.append(line)
                if line["kind"] == "close":
                    hit.discard(line["connection"])
        return tuple(found)


def read_wire(path: Path) -> Wire | None:
    """Read a journal; None when there is none. A last line that a kill has torn is left out.

    Raises PlanError for a file that is no journal.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PlanError([_problem(path, 0, f"cannot be read: {error.strerror or error}")]) from error
    lines: list[Line] = []
    for number, line in enumerate(text.split(b"\n")[:-1], start=1):
        try:
            decoded = json.loads(line)
            if not isinstance(decoded, dict) or not isinstance(decoded["kind"], str):
                raise TypeError("an object with a kind is wanted")
            float(decoded["time_ns"])
        except (ValueError, TypeError, KeyError) as error:
            raise PlanError([_problem(path, number, f"is not a line of a wire journal: {error}")]) from error
        lines.append(decoded)
    return Wire.of(lines)


def frame_of(line: Line) -> FrameId | None:
    """Return the request that a line is about; None for a line about a connection or a fault."""
    connection, frame = line.get("connection"), line.get("frame")
    return (connection, frame) if isinstance(connection, int) and isinstance(frame, int) else None


def _owners(lines: Sequence[Line]) -> Iterator[tuple[FrameId, str]]:
    """Yield each request whose transaction is known, with that."""
    groups: dict[int, list[Line]] = {}
    for line in lines:
        frame = frame_of(line)
        if line["kind"] != "request" or frame is None:
            continue
        group = groups.get(frame[0])
        if line.get("command") == "MULTI":
            groups[frame[0]] = [line]
        elif group is not None:
            group.append(line)
            if line.get("command") in ("EXEC", "DISCARD"):
                yield from _owned(groups.pop(frame[0]))
        elif line.get("token"):
            yield frame, str(line["token"])
    for group in groups.values():
        yield from _owned(group)


def _owned(group: Sequence[Line]) -> Iterator[tuple[FrameId, str]]:
    names = {str(line["token"]) for line in group if line.get("token")}
    for line in group:
        frame = frame_of(line)
        if len(names) == 1 and frame is not None:
            yield frame, next(iter(names))


def _problem(path: Path, line: int, text: str) -> Problem:
    return Problem(str(path), line, text, "take an unedited copy of the file", "malformed-wire")
