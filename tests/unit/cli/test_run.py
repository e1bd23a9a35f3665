"""What `chaos run` does with results that cannot be had on demand: a runner that breaks, a fault that stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import chaos.runner.api as api
from chaos import Experiment, stores, workload
from chaos.cli.main import main
from chaos.cli.run import run_all
from chaos.experiment.plan import Plan, resolve
from chaos.runner.api import RunOptions, RunResult

FILE = """
from chaos import Experiment, stores, workload

EXPERIMENT = Experiment(
    id="one",
    hypothesis="It holds.",
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(),
)
"""


HUNG_UP = """
import os, sys
import chaos.runner.api as api
from chaos.cli.main import main

def run_blocking(plan, options, progress=None):
    assert progress is not None or not os.isatty(2)
    if progress is not None:
        progress.update(api.Snapshot("load", 1.0, 1, (), 1.0))
    return api.RunResult("one", 1, "interrupted", 129, None, (), "SIGHUP", "again", signal=1)

api.run_blocking = run_blocking
sys.stdin.readline()  # until the terminal is gone
sys.exit(main(["run", "one.py", "--seed", "1"]))
"""


def plan(seed: int) -> Plan:
    """Return a plan for a seed."""
    experiment = Experiment(
        id="one",
        hypothesis="It holds.",
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(),
    )
    return resolve(experiment, seed, Path("one.py"))


def ending(code: int, verdict: str) -> Callable[..., RunResult]:
    """Return a runner whose every run ends with a verdict."""

    def run_blocking(plan: Plan, options: RunOptions, progress: object = None) -> RunResult:
        repeat = api.repeat_command(plan, options)
        signal = code - 128 if code > 128 else None
        return RunResult("one", plan.seed, verdict, code, None, (), "said why", repeat, signal=signal)

    return run_blocking


def raising(plan: Plan, options: RunOptions, progress: object = None) -> RunResult:
    """Break as a runner should not."""
    raise RuntimeError(f"surprise {plan.seed}")


def test_a_broken_runner_does_not_hide_the_other_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each run has a result, and the traceback of the harness is on stderr."""
    monkeypatch.setattr(api, "run_blocking", raising)
    results = run_all([plan(1), plan(2)], {"out": tmp_path}, quiet=False)
    assert [(result.seed, result.verdict, result.exit_code) for result in results] == [
        (1, "harness_failed", 70),
        (2, "harness_failed", 70),
    ]
    out, err = capsys.readouterr()
    assert "surprise 2" in err
    assert "fault of the harness" in err
    assert out.splitlines()[0] == out.splitlines()[3] == "seed 1  repeat: chaos run one.py --seed 1"


@pytest.mark.parametrize(
    ("verdict", "code"), [("not_healed", 6), ("harness_failed", 70), ("inconclusive", 3), ("not_started", 4)]
)
def test_the_code_of_a_run_is_the_code_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, verdict: str, code: int
) -> None:
    """What the runner concludes is what the shell sees, and the reason is printed."""
    monkeypatch.setattr(api, "run_blocking", ending(code, verdict))
    (tmp_path / "one.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "one.py", "--seeds", "1..2"]) == code
    out = capsys.readouterr().out
    assert f"one: {verdict.replace('_', ' ').upper()}" in out
    assert "said why" in out
    assert out.splitlines()[-1].endswith("seed 2  repeat: chaos run one.py --seed 2")


def test_a_signal_stops_the_series(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a run that a signal ended no other is started."""
    monkeypatch.setattr(api, "run_blocking", ending(143, "interrupted"))
    results = run_all([plan(1), plan(2)], {"out": tmp_path}, quiet=True)
    assert [result.exit_code for result in results] == [143]


def test_a_terminal_that_is_gone_changes_no_code(tmp_path: Path) -> None:
    """With stdout and stderr on a terminal that hung up, the code is still that of the run that was interrupted."""
    import os
    import subprocess
    import sys

    (tmp_path / "one.py").write_text(FILE)
    (tmp_path / "main.py").write_text(HUNG_UP)
    ours, theirs = os.openpty()
    root = str(Path(__file__).resolve().parents[3])
    process = subprocess.Popen(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.close(ours)
    process.communicate(b"\n", timeout=30)
    assert process.returncode == 129


@pytest.mark.parametrize(
    ("raised", "code"), [(SystemExit(1), 70), (RuntimeError("surprise"), 70), (KeyboardInterrupt(), 130)]
)
def test_what_nobody_foresaw_is_never_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int
) -> None:
    """Whatever escapes from a command, the code is not Python's own 1, that of a failed check."""
    from chaos.cli import verbs

    def broken(**_: object) -> None:
        raise raised

    monkeypatch.setattr(verbs.chaos, "main", broken)
    assert main(["list"]) == code
    assert (type(raised).__name__ in capsys.readouterr().err) == (code == 70)
