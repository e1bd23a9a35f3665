from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests_support import gone, wait_until

from chaos.crashpoints import findings, session, snapshot, targets
from chaos.crashpoints.explorer import Budget
from chaos.crashpoints.judge import Outcome
from chaos.crashpoints.promises import Promise
from chaos.crashpoints.session import Options, Summary
from chaos.exit_codes import ExitCode

pytestmark = pytest.mark.requires("shim")
CHAOS = Path(sys.executable).with_name("chaos")

# Replaces one file over and over, in the way that programs do who have heard that a rename is atomic.
PROGRAM = """
import os, sys
folder = os.environ["CHAOS_DATA"]
def tell(text):
    os.unlink(f"{folder}/.chaos-marker/{text}")
def sync(descriptor):
    if "sync" in sys.argv:
        os.fsync(descriptor)
    os.close(descriptor)
for number in range(4):
    tell(f"begin {number}")
    file = os.open(f"{folder}/new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(file, f"{number}\\n".encode() * 300)
    sync(file)
    os.rename(f"{folder}/new", f"{folder}/value")
    sync(os.open(folder, os.O_RDONLY))
    tell(f"acknowledged {number}")
"""
CHECK = """
import json, os, sys
folder = os.environ["CHAOS_DATA"]
acknowledged = json.load(open(os.environ["CHAOS_PROMISE"]))["acknowledged"]
try:
    lines = open(f"{folder}/value").read().split("\\n")[:-1]
except FileNotFoundError:
    lines = []
if lines and (len(lines) != 300 or len(set(lines)) != 1):
    sys.exit("corrupted: torn")
if int(lines[0] if lines else -1) < max(map(int, acknowledged), default=-1):
    sys.exit("lost: an older value")
"""


def _explore(tmp_path: Path, target: str, **options) -> Summary:
    chosen = {"seed": 7, "jobs": 2, "out": tmp_path, "again": (1, 6), "budget": Budget(states=300), **options}
    return session.run(Options(target=target, **chosen), lambda _: None)


@pytest.mark.parametrize(
    "target", ["sqlite", "sqlite:journal=truncate", "sqlite:journal=persist", "sqlite:journal=delete,synchronous=extra"]
)
def test_sqlite_with_full_syncs_keeps_its_promises(tmp_path: Path, target: str):
    """The negative control: no state of a few hundred breaks a promise where SQLite's manual makes it."""
    summary = _explore(tmp_path, target)
    assert (summary.verdict, summary.findings) == ("clean", [])
    assert sum(summary.looked_at.values()) == 300
    assert summary.acknowledged == 15
    assert summary.recovery_states_looked_at > 0
    assert not list(Path(summary.folder).glob("violations/*"))


@pytest.mark.parametrize("target", ["sqlite:synchronous=off", "sqlite:journal=delete,synchronous=off"])
def test_sqlite_without_syncs_is_caught(tmp_path: Path, target: str):
    """The positive control: with synchronous=OFF a power loss corrupts and loses, and a process crash does neither."""
    summary = _explore(tmp_path, target)
    outcomes = {finding.outcome for finding in summary.findings}
    assert summary.exit_code == ExitCode.CHECK_FAILED
    assert {Outcome.CORRUPTED, Outcome.LOST} <= outcomes
    assert all(finding.crash.startswith("power loss") for finding in summary.findings)


def test_ignored_syncs_are_caught(tmp_path: Path):
    """The other positive control: a disk that lies about every sync breaks the safest mode."""
    summary = _explore(tmp_path, "sqlite", ignore_syncs=True, budget=Budget(states=200))
    assert {Outcome.CORRUPTED, Outcome.LOST} <= {finding.outcome for finding in summary.findings}


def test_wal_with_normal_syncs_loses_the_tail_only(tmp_path: Path):
    """What SQLite's manual says of synchronous=NORMAL: durability goes, consistency stays."""
    summary = _explore(tmp_path, "sqlite:synchronous=normal")
    assert [finding.outcome for finding in summary.findings if ">" not in finding.state] == [Outcome.LOST]
    assert "later ones" not in summary.findings[0].detail


def test_a_finding_is_told_with_all_that_repeats_it(tmp_path: Path):
    """DELETE with FULL can lose the last commit: the unlink of the journal is not synced. Nothing else is missing."""
    summary = _explore(tmp_path, "sqlite:journal=delete,transactions=3", again=(0, 0))
    [finding] = summary.findings
    assert finding.outcome is Outcome.LOST
    assert len(finding.missing) == 1
    assert finding.missing[0].endswith("unlink main.db-journal")
    folder = Path(finding.folder)
    assert (folder / "minimal" / "main.db-journal").is_file()
    assert "======== crash ========" in (folder / "operations.txt").read_text()
    told = (folder / "finding.txt").read_text()
    assert f"--state {finding.state}" in told
    code, lines = session.look_again(Path(summary.folder), finding.minimal, None)
    assert code == ExitCode.CHECK_FAILED
    assert finding.outcome in lines[0]
    code, lines = session.look_again(Path(summary.folder), finding.state.split(":")[0] + ":P", None)
    assert (code, lines[0].endswith(": ok")) == (ExitCode.PASS, True)


def test_a_second_crash_is_repeated_from_its_word(tmp_path: Path):
    """A state that a crash during recovery left is made again from the recording of that recovery."""
    summary = _explore(tmp_path, "sqlite:synchronous=off,transactions=4", budget=Budget(states=1), again=(6, 40))
    second = [finding for finding in summary.findings if ">" in finding.state]
    assert second
    code, lines = session.look_again(Path(summary.folder), second[0].state, None)
    assert code == ExitCode.CHECK_FAILED
    assert second[0].outcome in lines[0]
    _holds_both_crashes(Path(second[0].folder))


def _holds_both_crashes(folder: Path) -> None:
    """The folder has what the second crash left and the recovery's operations, and below those of the first."""
    inner, outer = snapshot.read(folder / "state"), snapshot.read(folder / "before" / "state")
    assert snapshot.differences(inner, outer)
    target = targets.make("sqlite:synchronous=off,transactions=4")
    data = folder.parent / "looked-at"
    shutil.copytree(folder / "state", data)
    seen = target.observe(data, Promise(), thorough=False)
    told = msgspec.json.decode((folder / "finding.json").read_bytes(), type=findings.Finding)
    promised = re.search(r"promised: (\d+) transactions", (folder / "finding.txt").read_text())
    assert promised is not None
    assert told.outcome is not Outcome.LOST or len(seen.found) < int(promised[1])
    for place in (folder, folder / "before"):
        assert "======== crash ========" in (place / "operations.txt").read_text()
    assert (folder / "operations.txt").read_text() != (folder / "before" / "operations.txt").read_text()


def test_the_same_seed_explores_the_same_states(tmp_path: Path):
    """States, sample and findings follow from the recording and the seed, whatever the number of workers."""
    first = _explore(tmp_path, "sqlite:synchronous=off,transactions=4", again=(0, 0), budget=Budget(states=60))
    lines = [
        sorted(json.loads(line)["recipe"] for line in (Path(folder) / "ledger.jsonl").read_text().splitlines()[1:])
        for folder in (first.folder, _again(first, tmp_path))
    ]
    assert len(lines[0]) == 60
    assert lines[0] == lines[1]


def _again(first: Summary, tmp_path: Path) -> str:
    """Explore the recording of a summary anew with one worker, and return the folder."""
    folder = tmp_path / "again"
    folder.mkdir()
    for name in ("operations.log", "ledger.jsonl"):
        (folder / name).write_bytes((Path(first.folder) / name).read_bytes())
    (folder / "start").mkdir()
    header = (folder / "ledger.jsonl").read_bytes().split(b"\n")[0]
    (folder / "ledger.jsonl").write_bytes(header + b"\n")
    options = Options(target="", seed=0, jobs=1, out=tmp_path, budget=Budget(states=60), again=(0, 0))
    session.resume(folder, options, lambda _: None)
    return str(folder)


def test_an_exploration_is_resumed(tmp_path: Path):
    """States that were looked at are not looked at again, and the findings of both parts are told together."""
    first = _explore(tmp_path, "sqlite:synchronous=off,transactions=4", again=(0, 0), budget=Budget(states=40))
    options = Options(target="", seed=0, jobs=2, out=tmp_path, budget=Budget(states=100), again=(0, 0))
    second = session.resume(Path(first.folder), options, lambda _: None)
    assert sum(second.looked_at.values()) == 100
    lines = (Path(first.folder) / "ledger.jsonl").read_text().splitlines()
    digests = [json.loads(line)["digest"] for line in lines[1:]]
    assert len(digests) == len(set(digests)) == 100
    assert {one.outcome for one in first.findings} <= {one.outcome for one in second.findings}


def _command(tmp_path: Path, *arguments: str) -> Options:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "check.py").write_text(CHECK)
    return Options(
        target="command",
        seed=1,
        jobs=2,
        out=tmp_path / "out",
        budget=Budget(states=80),
        again=(1, 4),
        command=(sys.executable, "-S", str(tmp_path / "program.py"), *arguments),
        check=f"{sys.executable} -S {tmp_path / 'check.py'}",
    )


def test_a_program_of_ones_own_is_explored(tmp_path: Path):
    """A replace by rename that syncs nothing is torn and lost; with the file and the folder synced it is neither."""
    careless = session.run(_command(tmp_path), lambda _: None)
    assert {finding.outcome for finding in careless.findings} == {Outcome.CORRUPTED, Outcome.LOST}
    careful = session.run(_command(tmp_path, "sync"), lambda _: None)
    assert careful.verdict == "clean"


def test_the_command_line_tells_and_repeats(tmp_path: Path):
    """The seed is the first and the last line, the exit code is the verdict, and --json holds the same."""
    words = [
        CHAOS,
        "explore",
        "sqlite:transactions=2",
        "--budget",
        "20",
        "--seed",
        "4",
        "--out",
        tmp_path,
        "--again",
        "0",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == ExitCode.PASS, done.stderr
    assert lines[0] == lines[-1]
    assert lines[0].startswith("seed 4  repeat: chaos explore sqlite:transactions=2")
    done = subprocess.run([*words, "--json", "--ignore-syncs"], capture_output=True, text=True, check=False)
    document = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode == ExitCode.CHECK_FAILED
    assert document["findings"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["sqlite", "kuzu"],
        ["oracle"],
        ["sqlite:journal=x"],
        ["sqlite", "--budget", "soon"],
        ["--state", "1:P"],
        ["--resume", "nowhere"],
    ],
    ids=str,
)
def test_wrong_usage_starts_nothing(tmp_path: Path, words: list[str]):
    """A mistake in the words is told with exit code 2."""
    done = subprocess.run([CHAOS, "explore", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_outlives_a_killed_explorer(tmp_path: Path):
    """After SIGKILL its workers, what they started and the folder of states are gone."""
    words = [CHAOS, "explore", "sqlite", "--budget", "1h", "--draws", "200", "--jobs", "2", "--out", tmp_path]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    with process:
        while "operations" not in process.stdout.readline():
            assert process.poll() is None
        assert wait_until(lambda: _scratch_folders(process.pid) != set())
        children, folders = _children(process.pid), _scratch_folders(process.pid)
        process.send_signal(signal.SIGKILL)
    assert wait_until(lambda: all(map(gone, children)), 10)
    assert wait_until(lambda: not any(folder.exists() for folder in folders), 10)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _scratch_folders(pid: int) -> set[Path]:
    """Return where the workers of an explorer work, as their open files tell."""
    links = [link for child in _children(pid) for link in _open_files(child)]
    return {link.parents[1] for link in links if "chaos-explore-" in str(link.parent)}


def _open_files(pid: int) -> list[Path]:
    try:
        return [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
