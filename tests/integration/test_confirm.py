"""The confirmation without the shim, in both directions: it sees what is there, and nothing where nothing is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from findings_support import planted

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "findings"

pytestmark = [pytest.mark.deep, pytest.mark.requires("strace"), pytest.mark.timeout(300)]

SQLITE = """
import sqlite3

COUNT = 4


def opened(folder):
    connection = sqlite3.connect(folder / "main.db", isolation_level=None)
    assert connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    connection.execute("PRAGMA synchronous={synchronous}")
    return connection


def steps(folder, tell):
    connection = opened(folder)
    connection.execute("CREATE TABLE entry(id)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    tell.phase("commits")
    for number in range(COUNT):
        tell.begin(str(number))
        connection.execute("INSERT INTO entry VALUES (?)", (number,))
        tell.acknowledged(str(number))
    tell.phase("done")


def check(folder):
    connection = opened(folder)
    if not connection.execute("SELECT * FROM sqlite_master").fetchall():
        return {{}}
    return {{str(number): True for (number,) in connection.execute("SELECT id FROM entry")}}


CHECK = check
"""


def confirm(file: Path | str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the script on one file."""
    script = FOLDER / "confirm" / "confirm.py"
    return subprocess.run(
        [sys.executable, script, file, *words], capture_output=True, text=True, check=False, timeout=280, cwd=ROOT
    )


@pytest.mark.requires("ladybug")
@pytest.mark.parametrize("name", ["ladybug_commit_killed.py", "ladybug_commit_disk_full.py", "graph_begin_refused.py"])
def test_what_is_known_is_confirmed(name: str) -> None:
    """By SIGKILL at a call, by a write that the kernel cuts short, and by the steps alone."""
    done = confirm(FOLDER / name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": confirmed by " in done.stdout


@pytest.mark.parametrize("sound", [False, True])
def test_a_kill_shows_a_torn_file_and_no_sound_one(tmp_path: Path, sound: bool) -> None:
    """A planted store is killed at each of its calls: the one that tears is caught, and the sound one is not."""
    file = tmp_path / "planted.py"
    file.write_text(planted(trial="trials.Crash(during='writing')", outcome="partial transaction", sound=sound))
    done = confirm(file)
    assert done.returncode == int(sound), done.stdout + done.stderr
    assert (" x partial transaction" in done.stdout) != sound


@pytest.mark.requires("loop")
@pytest.mark.parametrize(("synchronous", "lost"), [("FULL", False), ("OFF", True)])
def test_the_image_loses_what_is_not_synced_and_nothing_else(tmp_path: Path, synchronous: str, lost: bool) -> None:
    """SQLite with FULL keeps every acknowledged row through each copied image; with OFF it loses some."""
    text = planted(trial="trials.PowerLoss(during='commits')", outcome="acknowledged data lost")
    file = tmp_path / "planted.py"
    file.write_text(SQLITE.format(synchronous=synchronous) + text[text.index("\nfrom chaos import Finding") :])
    done = confirm(file, "--moments", "8")
    assert done.returncode == int(not lost), done.stdout + done.stderr
    assert (" x acknowledged data lost" in done.stdout) == lost
    assert lost or " x ok" in done.stdout
