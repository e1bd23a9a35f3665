"""Runs through the real command line, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Outcome:
    """What one call of the command did."""

    code: int
    out: str
    err: str
    runs: Path

    @property
    def folder(self) -> Path:
        """The folder of the newest run."""
        return (self.runs / "latest").resolve()

    def json(self, name: str) -> Any:
        """Read a JSON file of the run folder."""
        return json.loads((self.folder / name).read_text())

    def history(self) -> list[dict[str, Any]]:
        """Read the history's entries."""
        return [json.loads(line) for line in (self.folder / "history.jsonl").read_text().splitlines()]


@dataclass
class Command:
    """`chaos`, run in a folder of the test's own."""

    folder: Path

    @property
    def runs(self) -> Path:
        """Where run folders go."""
        return self.folder / "runs"

    def write(self, text: str, name: str = "sample.py") -> Path:
        """Write an experiment file."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def arguments(self, *words: str | Path) -> list[str]:
        """Return the whole command line."""
        return [sys.executable, "-m", "chaos", *map(str, words)]

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment of the command: this source tree, no colours."""
        return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **changes}

    def __call__(self, *words: str | Path, patience_s: float = 110, **environment: str) -> Outcome:
        """Run the command to its end, within the time given."""
        done = subprocess.run(
            self.arguments(*words),
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, self.runs)


@pytest.fixture
def chaos_command(tmp_path: Path) -> Command:
    """The command line, in a folder of its own."""
    return Command(tmp_path)


TRIVIAL = """
    from chaos import Experiment, Recovery, faults, stores, when, workload

    EXPERIMENT = Experiment(
        id="trivial",
        hypothesis="One second of load passes.",
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(accounts=8, clients=2, rate=40, seconds=1, deadline="1s"),
        recovery=Recovery(budget="10s", hold="200ms"),
        schedule=({schedule}),
    )
"""


@pytest.fixture
def trivial() -> Any:
    """Return the text of a short experiment, with the schedule given."""

    def text(schedule: str = "") -> str:
        return TRIVIAL.replace("{schedule}", schedule)

    return text
