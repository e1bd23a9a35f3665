"""The explorer's memory: one line for what was explored, one for each state looked at. `--resume` goes on from it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from chaos.crashpoints.bench import Result
from chaos.errors import PlanError, Problem

NAME = "ledger.jsonl"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the states of a ledger belong to; everything that decides which there are."""

    target: str
    seed: int
    draws: int
    ignore_syncs: bool = False
    check: str | None = None
    data: str | None = None
    command: list[str] = []
    log_digest: str = ""
    phase: str | None = None
    crash: str | None = None
    after: str = "*"


class Ledger:
    """An open ledger. Lines are appended whole."""

    def __init__(self, path: Path) -> None:
        """Open for appending. A line that a killed explorer left half-written is cut off first."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        text = path.read_bytes()
        os.ftruncate(self._descriptor, text.rfind(b"\n") + 1)

    def begin(self, header: Header) -> None:
        """Write the first line."""
        self._append([header])

    def note(self, results: Iterable[Result]) -> None:
        """Add what was looked at."""
        self._append(results)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _append(self, items: Iterable[msgspec.Struct]) -> None:
        left = memoryview(b"".join(msgspec.json.encode(item) + b"\n" for item in items))
        while left:
            left = left[os.write(self._descriptor, left) :]


def read(folder: Path) -> tuple[Header, list[Result]]:
    """Read a ledger. Raises PlanError when there is none or a line of it is not one; a torn last line is left out."""
    path = folder / NAME
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        header = msgspec.json.decode(lines[0], type=Header)
        return header, [msgspec.json.decode(line, type=Result) for line in lines[1:]]
    except (OSError, IndexError, msgspec.DecodeError) as error:
        why = f"is no ledger of an exploration: {error}"
        raise PlanError([Problem(str(path), 0, why, "name a folder that `chaos explore` made", "not-a-run")]) from error
