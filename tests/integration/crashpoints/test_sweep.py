from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from chaos.crashpoints import sweeping
from chaos.crashpoints.explorer import Budget
from chaos.crashpoints.judge import Outcome
from chaos.crashpoints.session import Options
from chaos.exit_codes import ExitCode

pytestmark = pytest.mark.requires("shim")

# Writes numbers to a file and acknowledges each; with "careless" it takes no notice of errors.
PROGRAM = """
import os, sys
folder = os.environ["CHAOS_DATA"]
for number in range(3):
    os.unlink(f"{folder}/.chaos-marker/begin {number}")
    try:
        file = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT)
        os.write(file, b"x" * 100)
        os.fsync(file)
    except OSError:
        if "careless" not in sys.argv:
            raise
    os.unlink(f"{folder}/.chaos-marker/acknowledged {number}")
"""
CHECK = """
import json, os, sys
folder = os.environ["CHAOS_DATA"]
for number in json.load(open(os.environ["CHAOS_PROMISE"]))["acknowledged"]:
    if not os.path.exists(f"{folder}/{number}") or os.path.getsize(f"{folder}/{number}") != 100:
        sys.exit(f"lost: {number}")
"""


def _options(tmp_path: Path, *arguments: str) -> Options:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "check.py").write_text(CHECK)
    return Options(
        target="command",
        seed=0,
        jobs=2,
        out=tmp_path / "out",
        command=(sys.executable, "-S", str(tmp_path / "program.py"), *arguments),
        check=f"{sys.executable} -S {tmp_path / 'check.py'}",
    )


def test_a_program_that_looks_at_errors_passes(tmp_path: Path):
    """Every call is hit but the one behind the last of each kind, and each error is noticed."""
    swept = sweeping.run(_options(tmp_path), lambda _: None)
    assert swept.verdict == "clean"
    assert {kind: swept.calls[kind] for kind in ("open", "write", "sync")} == {"open": 3, "write": 3, "sync": 3}
    assert swept.hit == swept.noticed == 18
    assert swept.runs == 24
    lines = (Path(swept.folder) / "calls.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["fired"] == 0 for line in lines) == 6


def test_a_program_that_takes_no_notice_is_caught(tmp_path: Path):
    """Acknowledging what failed to be written is found, and the finding repeats from its word."""
    options = _options(tmp_path, "careless")
    swept = sweeping.run(options, lambda _: None)
    assert {one.outcome for one in swept.findings} == {Outcome.LOST}
    assert swept.exit_code == ExitCode.CHECK_FAILED
    code, lines = sweeping.run_again(options, swept.findings[0].call)
    assert code == ExitCode.CHECK_FAILED
    assert Outcome.LOST in lines[0]
    code, _ = sweeping.run_again(options, "write:99:once")
    assert code == ExitCode.INCONCLUSIVE


@pytest.mark.deep
@pytest.mark.slow
def test_sqlite_copes_with_failing_calls(tmp_path: Path):
    """A sample of failing calls of each kind leaves every acknowledged transaction whole."""
    options = Options(target="sqlite:transactions=6", seed=0, jobs=2, out=tmp_path, budget=Budget(states=40))
    swept = sweeping.run(options, lambda _: None)
    assert (swept.verdict, swept.findings) == ("clean", [])
    assert swept.noticed > 10
