"""Findings through the command: those of this repository, and small ones whose every outcome is planted."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from findings_support import REDIS_PY, planted

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "findings"
FILES = sorted(path.name for path in FOLDER.glob("*.py"))
QUICK = {"ladybug_commit_killed.py"}
"""The nightly runs them all, here and by the command."""

deep = pytest.mark.deep

pytestmark = [pytest.mark.requires("redis", "kuzu", "ladybug", "shim"), pytest.mark.timeout(180)]


def _cases() -> list[object]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.deep) for name in FILES]


@pytest.mark.parametrize("name", _cases())
def test_a_finding_fails_as_known(chaos_command, name: str) -> None:
    """Exit 0: the affected version shows exactly what is known of it."""
    done = chaos_command("run", FOLDER / name, "--seed", "0", patience_s=170)
    assert done.code == 0, done.out + done.err


def test_list_validate_and_plan_know_them(chaos_command) -> None:
    """Nothing is started, no engine is imported, and each says what it expects of whom."""
    listed = chaos_command("list", FOLDER)
    assert listed.code == 0
    assert "expected to fail: hangs in ladybug 0.22.0" in listed.out
    assert chaos_command("validate", FOLDER).code == 0
    planned = chaos_command("plan", FOLDER / "ladybug_commit_disk_full.py", "--seed", "1")
    assert "faulted(during=disk is full, fault=disk.full(" in planned.out
    assert "expects hangs of ladybug 0.22.0" in planned.out


@pytest.mark.parametrize(
    ("body", "outcome", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashes", "SIGSEGV"),
        pytest.param("assert False, 'it says 2'", "wrong answer", "it says 2", marks=deep),
        pytest.param("import threading; threading.Event().wait()", "hangs", "did not end within 5 s", marks=deep),
    ],
)
def test_undisturbed_steps(chaos_command, body: str, outcome: str, says: str) -> None:
    """An assertion, a signal and a wait without end are each told for what they are, and nothing is left running."""
    file = chaos_command.write(planted(steps=body, outcome=outcome, says=says, limit="5s"))
    done = chaos_command("run", file, "--seed", "1")
    assert done.code == 0, done.out + done.err
    assert f"fails as known of redis-py {REDIS_PY}" in done.out.replace("\n  ", " ")


@deep
def test_steps_that_fail_by_themselves_are_inconclusive(chaos_command) -> None:
    """An exception that nobody expected says nothing about the store."""
    done = chaos_command("run", chaos_command.write(planted(steps="raise OSError('no')")), "--seed", "1")
    assert done.code == 3
    assert "OSError: no" in done.out


@pytest.mark.parametrize(
    ("trial", "outcome"),
    [
        ("trials.Crash(during='writing', again=True)", "corrupted"),
        pytest.param("trials.Crash(during='writing')", "partial transaction", marks=deep),
        pytest.param("trials.PowerLoss(during='writing')", "partial transaction", marks=deep),
        ("trials.Faulted(during='writing', fault=faults.DiskError('redis-py', error='ENOSPC'))", "refuses to open"),
    ],
)
def test_each_trial_finds_what_is_planted(chaos_command, trial: str, outcome: str) -> None:
    """A store that tears, does not sync, spoils its data in recovery, or forgets a file is caught by its trial."""
    file = chaos_command.write(planted(trial=trial, outcome=outcome))
    done = chaos_command("run", file, "--seed", "1")
    assert done.code == 0, done.out + done.err
    again = chaos_command("check", done.folder)
    assert again.code == 0
    assert again.out.strip() == (done.folder / "report.txt").read_text().strip()


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param("trials.Crash(during='writing')", marks=deep),
        "trials.PowerLoss(during='writing')",
        pytest.param("trials.Crash(during='writing', again=True)", marks=deep),
        pytest.param(
            "trials.Faulted(during='writing', fault=faults.DiskError('redis-py', error='ENOSPC'))", marks=deep
        ),
    ],
)
def test_a_sound_store_passes_unexpectedly(chaos_command, trial: str) -> None:
    """The expectation is strict: what is fixed is told as fixed, unless the shim went blind."""
    done = chaos_command("run", chaos_command.write(planted(trial=trial, sound=True)), "--seed", "1")
    assert done.code == 1, done.out + done.err
    assert "fixed upstream, or the shim went blind" in done.out.replace("\n  ", " ")


@deep
def test_another_version_must_not_show_it(chaos_command) -> None:
    """The same defect in a version that is not listed is a failure, and its absence is a pass."""
    shown = chaos_command("run", chaos_command.write(planted(steps="assert False", version="0.1")), "--seed", "1")
    assert shown.code == 1
    assert "not among the affected versions" in shown.out.replace("\n  ", " ")
    assert chaos_command("run", chaos_command.write(planted(steps="pass", version="0.1")), "--seed", "1").code == 0


@pytest.mark.parametrize(
    "trial",
    [
        pytest.param("trials.Crash(during='never told')", marks=deep),
        pytest.param("trials.Crash(during='writing', after='sync nothing')", marks=deep),
        pytest.param("trials.Faulted(during='never told', fault=faults.DiskError('redis-py'))", marks=deep),
        "trials.Faulted(during='writing', fault=faults.DiskError('redis-py', path='other'))",
    ],
)
def test_a_trial_that_meets_nothing_is_inconclusive(chaos_command, trial: str) -> None:
    """A phase that never comes and a fault that no call meets prove nothing."""
    done = chaos_command("run", chaos_command.write(planted(trial=trial)), "--seed", "1")
    assert done.code == 3, done.out + done.err


@deep
def test_the_steps_can_be_explored(chaos_command) -> None:
    """`chaos explore steps:FILE` looks at every crash of the whole steps, not of one phase only."""
    file = chaos_command.write(planted())
    done = chaos_command("explore", f"steps:{file}", "--seed", "1", "--budget", "60", "--again", "0")
    assert done.code == 1, done.out + done.err
    assert "acknowledged data lost after power loss" in done.out


def test_a_signal_ends_it_and_leaves_nothing(chaos_command) -> None:
    """SIGTERM while the steps hang: the code of the signal, a folder that says so, no process and no live data."""
    file = chaos_command.write(planted(steps="import threading; threading.Event().wait()", limit="60s"))
    process = subprocess.Popen(
        chaos_command.arguments("run", file, "--seed", "1", "--json"),
        cwd=chaos_command.folder,
        env=chaos_command.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    _wait_for_victim(process.pid)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    folder = (chaos_command.runs / "latest").resolve()
    assert '"interrupted"' in (folder / "run.json").read_text()
    assert not (folder / "live").exists()
    assert not _children(process.pid)


def _wait_for_victim(pid: int) -> None:
    pause = threading.Event()
    while not any(b"chaos.crashpoints.victim" in words for words in _children(pid)):
        pause.wait(0.02)


def _children(pid: int) -> list[bytes]:
    """Return the command lines of the processes whose ancestor said that it is `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "environ").read_bytes()
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"CHAOS_PARENT_PID={pid}\0".encode() in told and int(entry.name) != os.getpid():
                found.append(words.replace(b"\0", b" "))
    return found
