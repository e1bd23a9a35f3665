"""The processes of a confirmation: the steps of a finding, or a look at what is left. No file shim is in them.

    child.py steps FILE::ID FOLDER [PHASE BYTES]    with PHASE: no file may grow by more than BYTES while it lasts
    child.py look FILE::ID FOLDER                   prints what the finding's check saw, as JSON

The steps end with status 0, with WRONG when an assertion of theirs does not hold, or as the store ends them.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import msgspec

from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.targets.steps import StepsTarget, load_steps, say_wrong

WRONG = 76


class LimitedTeller(Teller):
    """Bounds the size of files during one phase, so that the kernel itself cuts a write short (setrlimit(2))."""

    def __init__(self, folder: Path, during: str, grow_bytes: int) -> None:
        """Nothing is bounded yet. Python ignores SIGXFSZ, so the call fails with EFBIG."""
        super().__init__(folder)
        self._folder, self._during, self._grow_bytes = folder, during, grow_bytes

    def phase(self, name: str) -> None:
        """Set or lift the bound: that of the log, which is the file that a commit writes."""
        super().phase(name)
        soft = resource.RLIM_INFINITY
        if name == self._during:
            sizes = [file.stat().st_size for file in self._folder.glob("*.wal")]
            soft = sum(sizes) + self._grow_bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))


def run_steps(target: StepsTarget, folder: Path, limit: list[str]) -> int:
    """Do the steps and return the status to leave with."""
    teller = LimitedTeller(folder, limit[0], int(limit[1])) if limit else Teller(folder)
    try:
        target.work(folder, teller)
    except AssertionError as error:
        say_wrong(error)
        leave(WRONG)
    return 0


def leave(status: int) -> None:
    """End without destructors, which are no part of the steps and may hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Do what the words say."""
    act, name, place, *limit = sys.argv[1:]
    target, folder = load_steps(name), Path(place)
    if act == "steps":
        leave(run_steps(target, folder, limit))
    if act == "recover":
        target.recover(folder, Teller(folder))
        leave(0)
    seen = target.observe(folder, Promise(), thorough=False)
    sys.stdout.write(msgspec.json.encode(seen).decode() + "\n")
    leave(0)


if __name__ == "__main__":
    main()
