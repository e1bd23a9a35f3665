"""A user's own program as target: a command that works, and a command that checks what a crash left.

Both find the data folder in CHAOS_DATA, and as `{data}` in their words. The check also finds in CHAOS_PROMISE a JSON
file that says what was begun, acknowledged and aborted. It exits with 0 when all is well. Otherwise the last line that
it prints may begin with `lost:`, `partial:`, `corrupted:` or `refuses:` to name the outcome; without that, the data
count as corrupted.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import ClassVar

import msgspec

from chaos.crashpoints.judge import Judgement, Observation, Outcome
from chaos.crashpoints.promises import Promise
from chaos.errors import EnvironmentUnavailable, PlanError, Problem

DATA_VARIABLE = "CHAOS_DATA"
PROMISE_VARIABLE = "CHAOS_PROMISE"

_WORDS = {
    "lost": Outcome.LOST,
    "partial": Outcome.PARTIAL,
    "corrupted": Outcome.CORRUPTED,
    "refuses": Outcome.REFUSES,
}
_SAID_MAX = 300


class CommandTarget:
    """A command and its check; see the head of this file."""

    name: ClassVar[str] = "command"
    ignored: tuple[str, ...] = ()
    limit_s = 20.0
    memory_bytes: int | None = None
    reads_promise = True
    batch = 1
    thorough_every = 1
    prepared: tuple[str, ...] = ()

    def __init__(self, command: tuple[str, ...], check: str | None, data: str | None) -> None:
        """Keep the words. `data` is a folder whose content the work begins with. Raises PlanError without a check."""
        if not check or not command:
            text = "a command of your own must come with --check COMMAND"
            raise PlanError([Problem("chaos explore", 0, text, "add --check and -- COMMAND", "no-check-command")])
        self._command = command
        self._check = shlex.split(check)
        self._start = None if data is None else Path(data)

    def demand(self) -> None:
        """Raise EnvironmentUnavailable when a command or the folder is not there."""
        for words in (self._command, self._check):
            if shutil.which(words[0]) is None:
                raise EnvironmentUnavailable(f"command={words[0]!r} is not a program", "correct it, or its PATH")
        if self._start is not None and not self._start.is_dir():
            raise EnvironmentUnavailable(f"--data {self._start} is not a folder", "name one, or leave it out")

    def preload(self, folder: Path) -> None:
        """Nothing is looked at in the explorer's own processes."""

    def prepare(self, data: Path) -> None:
        """Copy the folder to begin with."""
        if self._start is not None:
            shutil.copytree(self._start, data, symlinks=True, dirs_exist_ok=True)

    def command(self, act: str, data: Path) -> list[str]:
        """Return the command that works, or the check, which recovers first."""
        words = self._check if act == "recover" else self._command
        return ["env", f"{DATA_VARIABLE}={data}", *_filled(words, data)]

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Run the check and understand how it ended."""
        told = data.with_name("promise.json")
        told.write_bytes(msgspec.json.encode(_plain(promise)))
        variables = {**os.environ, DATA_VARIABLE: str(data), PROMISE_VARIABLE: str(told)}
        done = subprocess.run(_filled(self._check, data), env=variables, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Observation(judged=Judgement(outcome=Outcome.OK))
        said = (done.stdout.strip() or done.stderr.strip()).splitlines() or [f"exit status {done.returncode}"]
        if done.returncode < 0:
            return Observation(killed=f"{signal.Signals(-done.returncode).name}: {said[-1][:_SAID_MAX]}")
        word, _, rest = said[-1].partition(":")
        outcome = _WORDS.get(word)
        detail = said[-1] if outcome is None else rest.strip()
        return Observation(judged=Judgement(outcome=outcome or Outcome.CORRUPTED, detail=detail[:_SAID_MAX]))


def _filled(words: tuple[str, ...] | list[str], data: Path) -> list[str]:
    return [word.replace("{data}", str(data)) for word in words]


def _plain(promise: Promise) -> dict[str, list[str] | str]:
    return {
        "begun": sorted(promise.begun),
        "acknowledged": sorted(promise.acknowledged),
        "aborted": sorted(promise.aborted),
        "phase": promise.phase,
    }
