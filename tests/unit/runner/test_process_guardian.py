"""Children that die with their parent, and the guardian that cleans up after a killed harness."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from tests_support import gone, wait_until

from chaos._process import spawn_program, until_exit
from chaos.runner.guardian import Guardian

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


async def test_a_child_tells_how_it_ended(tmp_path: Path) -> None:
    """The status of a killed child is minus the signal; killing twice is harmless."""
    child = spawn_program("sleeper", SLEEPER, log=tmp_path / "log")
    assert child.status is None
    assert await child.kill()
    assert child.status == -signal.SIGKILL
    assert await child.kill()


async def test_waiting_has_a_limit(tmp_path: Path) -> None:
    """A child that stays makes wait return None, and a stopped one can be killed."""
    child = spawn_program("sleeper", SLEEPER, log=tmp_path / "log")
    assert await child.wait(0.01) is None
    child.send(signal.SIGSTOP)
    assert await child.kill()


async def test_until_exit_of_no_process_returns() -> None:
    """A pid that is not there counts as gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    await until_exit(process.pid)
    assert gone(process.pid)


def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    """After SIGKILL of the parent both a Python child and a launched program are gone within a second."""
    script = textwrap.dedent(f"""
        import asyncio, pathlib
        from chaos._process import spawn_program
        async def main():
            child = spawn_program("sleeper", {SLEEPER!r}, log=pathlib.Path({str(tmp_path / "log")!r}))
            print(child.pid, flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert wait_until(lambda: gone(pid), 1.0)


def _guarded(tmp_path: Path, farewell: bool) -> tuple[int, Path, Path]:
    """Start a harness-like process with a guardian, a victim and a folder; end it; return what to look at."""
    data, manifest = tmp_path / "data", tmp_path / "run.json"
    data.mkdir()
    (data / "file").write_text("x")
    manifest.write_text(json.dumps({"verdict": "running"}))
    victim = subprocess.Popen(SLEEPER, start_new_session=True)
    script = textwrap.dedent(f"""
        import os, pathlib, signal
        from chaos.runner.guardian import Guardian
        guardian = Guardian()
        guardian.watch_process({victim.pid})
        guardian.watch_folder(pathlib.Path({str(data)!r}))
        guardian.watch_manifest(pathlib.Path({str(manifest)!r}))
        if {farewell}:
            guardian.dismiss()
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    subprocess.run([sys.executable, "-c", script], check=False)
    if farewell:
        victim_left = victim.poll() is None
        victim.kill()
        assert victim_left
    victim_gone = wait_until(lambda: victim.poll() is not None)
    assert victim_gone
    return victim.pid, data, manifest


def test_the_guardian_cleans_up_after_a_kill(tmp_path: Path) -> None:
    """Without a farewell it kills the processes, removes the folders and notes the end in run.json."""
    _, data, manifest = _guarded(tmp_path, farewell=False)
    assert wait_until(lambda: not data.exists())
    assert wait_until(lambda: json.loads(manifest.read_text())["verdict"] == "killed")


def test_the_guardian_touches_nothing_after_a_farewell(tmp_path: Path) -> None:
    """A harness that said farewell has cleaned up by itself."""
    _, data, manifest = _guarded(tmp_path, farewell=True)
    assert data.exists()
    assert json.loads(manifest.read_text())["verdict"] == "running"


def test_the_guardian_ends_when_dismissed() -> None:
    """Dismissing waits for its end; telling it anything afterwards is harmless."""
    guardian = Guardian()
    pid = guardian.pid
    guardian.dismiss()
    assert gone(pid)
