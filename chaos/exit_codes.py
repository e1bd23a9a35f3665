"""The exit codes of every command, and the order in which they win over several runs."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What a process status of `chaos` means; 128 + n is added for a signal n, after healing."""

    PASS = 0
    CHECK_FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    NOT_STARTED = 4
    NOTHING_SELECTED = 5
    NOT_HEALED = 6
    HARNESS = 70


PRECEDENCE = (
    ExitCode.CHECK_FAILED,
    ExitCode.HARNESS,
    ExitCode.NOT_HEALED,
    ExitCode.INCONCLUSIVE,
    ExitCode.NOT_STARTED,
    ExitCode.PASS,
)


def merge(codes: Iterable[int]) -> int:
    """Return the code of several runs: the first of `PRECEDENCE` that occurred.

    A code outside the list (128 + a signal, wrong usage) wins over all of them, the largest first, since
    it ended the command before the rest could be judged. No codes at all is NOTHING_SELECTED.
    """
    seen = set(codes)
    if not seen:
        return int(ExitCode.NOTHING_SELECTED)
    others = seen - set(PRECEDENCE)
    if others:
        return max(others)
    return int(next(code for code in PRECEDENCE if code in seen))
