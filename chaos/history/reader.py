"""Reads history.jsonl, tolerating the one thing a killed writer may leave: a torn last line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaos.errors import PlanError, Problem
from chaos.history.assemble import PROBLEM_LIMIT, assemble
from chaos.history.model import Entry
from chaos.history.view import History

_DECODER = msgspec.json.Decoder(Entry)


def read(path: Path) -> History:
    """Return the history stored at `path`.

    A last line without its line end that is not a whole entry was cut off by a crash of the harness: it is
    left out and `History.torn` says so. Operations still open at the end count as info. Anything else that is
    not a well-formed history raises PlanError with file, line and remedy (the file is the user's own choice:
    `chaos check RUN`), and so does a file that cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        text = f"cannot be read: {error.strerror or error}"
        raise PlanError([_problem(path, 0, text, "name a run folder that holds history.jsonl")]) from error
    entries, torn = _decode(path, data)
    return assemble(entries, source=str(path), torn=torn)


def _decode(path: Path, data: bytes) -> tuple[list[Entry], str | None]:
    """Return the entries of all whole lines, and what was torn off at the end."""
    lines = data.split(b"\n")
    unfinished = lines.pop()
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(_DECODER.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(_problem(path, number, f"is not an entry: {error}", "take an unedited copy of the file"))
            if len(problems) >= PROBLEM_LIMIT:
                break
    if problems:
        raise PlanError(problems)
    if not unfinished:
        return entries, None
    try:
        # Whole, so only the line end is missing: an editor's habit, or a crash one byte before the end.
        entries.append(_DECODER.decode(unfinished))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return entries, f"line {len(lines) + 1} was cut off after {len(unfinished)} bytes and is left out"
    return entries, None


def _problem(path: Path, line: int, text: str, remedy: str) -> Problem:
    """Return a problem placed in the history file."""
    return Problem(str(path), line, text, remedy, "malformed-history")
