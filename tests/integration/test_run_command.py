"""`chaos run` and `chaos check` in processes of their own, on real stores: output, codes, folders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.exit_codes import ExitCode

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = """
from chaos import Experiment, Guards, KnownFailure, Limits, checks, faults, probes, stores, systems, when, workload
from chaos.transactions.redo import RedoSystem
from chaos.transactions.system import Committed


class Forgets(RedoSystem):
    async def transact(self, request):
        return Committed(csn=1)


EXPERIMENT = Experiment(
    id="{id}",
    hypothesis="It holds.",
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(seconds={seconds}),
    checks=(checks.Durable(), checks.Landed()),
    {more}
)
"""
pytestmark = pytest.mark.requires("redis", "kuzu")


def write(folder: Path, experiment_id: str, more: str = "", seconds: float = 0.5) -> None:
    """Write an experiment without faults, with more arguments."""
    (folder / f"{experiment_id}.py").write_text(EXPERIMENT.format(id=experiment_id, more=more, seconds=seconds))


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Start `python -m chaos` in `cwd`."""
    return subprocess.Popen(
        [sys.executable, "-m", "chaos", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def chaos(*words: str, cwd: Path) -> tuple[int, str, str]:
    """Run `python -m chaos` to its end; return code, stdout and stderr."""
    process = start(*words, cwd=cwd)
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


def test_seed_is_first_and_last(tmp_path: Path) -> None:
    """A pass is code 0; first and last line are the seed, drawn here, and the command that repeats the run."""
    write(tmp_path, "calm")
    code, out, err = chaos("run", "calm.py", cwd=tmp_path)
    lines = out.splitlines()
    assert code == 0, out + err
    assert lines[0] == lines[-1]
    seed = lines[0].split()[1]
    assert lines[0] == f"seed {seed}  repeat: chaos run calm.py --seed {seed}"
    manifest = json.loads((tmp_path / "runs" / "latest" / "run.json").read_text())
    assert (manifest["seed"], manifest["verdict"], manifest["exit_code"]) == (int(seed), "pass", 0)
    assert err == ""


def test_stored_run_is_judged_again(tmp_path: Path) -> None:
    """`check` gives the same verdict and report as the run did, changes nothing, and notices what was changed."""
    write(tmp_path, "calm")
    code, ran, _ = chaos("run", "calm.py", "--seed", "4", cwd=tmp_path)
    folder = (tmp_path / "runs" / "latest").resolve()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again, report, _ = chaos("check", "runs/latest", cwd=tmp_path)
    assert (code, again) == (0, 0)
    assert report.strip() in ran
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    history = folder / "history.jsonl"
    text = history.read_text()
    reading = next(line for line in text.splitlines() if '"occasion":"reopened"' in line and '"ok"' in line)
    empty = json.loads(reading)
    empty["value"]["stores"]["graph"]["marks"] = {}
    history.write_text(text.replace(reading, json.dumps(empty)))
    code, out, _ = chaos("check", "runs/latest", "--json", cwd=tmp_path)
    document = json.loads(out)
    assert (code, document["exit_code"], document["verdict"]) == (1, 1, "fail")
    assert [check["name"] for check in document["checks"] if check["valid"] == "invalid"] == ["durable"]


def test_several_runs_and_one_json_document(tmp_path: Path) -> None:
    """The worst of several runs decides the code; stdout is one document, the seeds are on stderr."""
    write(tmp_path, "calm")
    write(tmp_path, "forgets", 'system=systems.Own("Forgets"),')
    code, out, err = chaos("run", "calm.py", "forgets.py", "--seeds", "8", "--json", "--out", "kept", cwd=tmp_path)
    document = json.loads(out)
    assert (code, document["exit_code"]) == (1, 1)
    assert [(run["experiment"], run["verdict"], run["exit_code"]) for run in document["runs"]] == [
        ("calm", "pass", 0),
        ("forgets", "fail", 1),
    ]
    assert document["runs"][1]["repeat"] == "chaos run forgets.py --seed 8"
    assert Path(document["runs"][1]["folder"]).is_relative_to(tmp_path / "kept")
    assert err.splitlines()[-1] == "seed 8  repeat: chaos run forgets.py --seed 8"


@pytest.mark.parametrize(
    ("more", "code", "verdict"),
    [
        ('system=systems.Own("Forgets"), expect=KnownFailure(check="durable", reason="It forgets."),', 0, "pass"),
        ('expect=KnownFailure(check="durable", reason="It forgets."),', 1, "fail"),
        ('schedule=(when.at("0.2s").do(faults.Kill("worker")),), guards=Guards(before=9999),', 3, "inconclusive"),
        ('steady_state=(probes.Commits(at_least=9999, within="0.2s"),),', 4, "not_started"),
    ],
)
def test_codes_of_runs(tmp_path: Path, more: str, code: int, verdict: str) -> None:
    """A known failure seen is a pass and one not seen a fail; vacuous runs and absent steady states have their own."""
    write(tmp_path, "one", more)
    ended, out, err = chaos("run", "one.py", "--seed", "1", "--json", cwd=tmp_path)
    (run,) = json.loads(out)["runs"]
    assert (ended, run["verdict"], run["exit_code"]) == (code, verdict, code), err


def test_a_place_that_cannot_be_written_is_code_4(tmp_path: Path) -> None:
    """A run folder that cannot be made is told with the way out, before anything is started."""
    write(tmp_path, "calm")
    code, out, _ = chaos("run", "calm.py", "--out", "calm.py/runs", cwd=tmp_path)
    assert code == ExitCode.NOT_STARTED
    assert "choose a writable place with --out" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_series(tmp_path: Path, number: signal.Signals) -> None:
    """A signal during the first of two runs gives 128 + n, a finished folder that can be judged, and no second run."""
    write(tmp_path, "long", 'limits=Limits(wall="90s"),', seconds=60)
    process = start("run", "long.py", "--seeds", "1..2", cwd=tmp_path)
    try:
        wait_for_load(tmp_path / "runs" / "long")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 128 + number, out + err
    (folder,) = (tmp_path / "runs" / "long").iterdir()
    assert json.loads((folder / "run.json").read_text())["verdict"] == "interrupted"
    assert "1 of 2 runs were not started" in err
    assert out.splitlines()[-1].endswith("repeat: chaos run long.py --seed 1")
    code, report, _ = chaos("check", str(folder), cwd=tmp_path)
    assert code == ExitCode.INCONCLUSIVE
    assert "ended early" in report


def wait_for_load(folder: Path) -> None:
    """Wait until the only run below `folder` has started its clients."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for history in folder.glob("*/history.jsonl"):
            if '"load_started"' in history.read_text():
                return
        time.sleep(0.02)
    raise AssertionError("no load within 30 s")
