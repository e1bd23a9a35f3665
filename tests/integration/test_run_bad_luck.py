"""Systems that misbehave, and a machine that does: every run ends, says what happened, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_support import gone, wait_until

pytestmark = [pytest.mark.requires("redis", "kuzu"), pytest.mark.slow]

SYSTEM = """
    import asyncio
    import os
    import subprocess
    import sys
    import time
    from pathlib import Path

    from chaos.transactions.redo import RedoSystem


    class Mine(RedoSystem):
"""


def _with_system(text: str, body: str) -> str:
    """Return the experiment with a system of its own: ours, with some methods replaced."""
    text = text.replace('id="trivial",', 'id="trivial", system=systems.Own("Mine"),')
    text = text.replace("import Experiment", "import systems, Experiment")
    return text + SYSTEM + "\n".join(f"        {line}" for line in body.splitlines()) + "\n"


def test_a_system_that_dies_in_every_transaction_is_not_started(chaos_command, trivial: Callable[..., str]) -> None:
    """The probe of the steady state does not spin while there is no worker; the run ends within its time."""
    body = "async def transact(self, request):\n    os._exit(3)"
    done = chaos_command("run", chaos_command.write(_with_system(trivial(), body)))
    assert done.code == 4, done.out + done.err
    assert "steady state" in done.out
    assert len(done.history()) < 5000
    assert not (done.folder / "live").exists()


def test_a_system_that_cannot_reopen_is_a_finding(chaos_command, trivial: Callable[..., str]) -> None:
    """Killed once, it never opens again: the run is judged, and recovery is what failed."""
    body = """async def open(self, site):
    flag = site.config.folder("sqlite") / "opened"
    if flag.exists():
        raise OSError("the door is locked")
    flag.touch()
    await super().open(site)"""
    text = _with_system(trivial('when.phase("acknowledged", nth=5).do(faults.Kill("worker")),'), body)
    text = text.replace('budget="10s"', 'budget="2s"').replace("trivial", "trivial")
    done = chaos_command("run", chaos_command.write(text))
    assert done.code == 1, done.out + done.err
    assert json.loads((done.folder / "checks/recovered.json").read_text())["valid"] == "invalid"
    assert (done.folder / "stores/sqlite/main.db").exists()


@pytest.mark.parametrize("answer", ["None", "{'outcome': 'fine'}", "'committed'"])
def test_a_malformed_answer_names_the_method(chaos_command, trivial: Callable[..., str], answer: str) -> None:
    """What is no outcome is the system's mistake: told by method and value, never a fault of the harness."""
    body = f"async def transact(self, request):\n    return {answer}"
    done = chaos_command("run", chaos_command.write(_with_system(trivial(), body)))
    assert done.code == 4, done.out + done.err
    assert "transact returned" in done.out
    assert done.json("run.json")["verdict"] == "not_started"


def test_a_traceback_of_the_system_is_in_the_log(chaos_command, trivial: Callable[..., str]) -> None:
    """What the user's code raised can be read with its line."""
    body = "async def set_up(self, site):\n    raise ValueError('no schema today')"
    done = chaos_command("run", chaos_command.write(_with_system(trivial(), body)))
    assert done.code == 4
    assert "ValueError: no schema today" in (done.folder / "logs/worker.log").read_text()


def test_processes_that_the_system_leaves_are_ended(chaos_command, trivial: Callable[..., str]) -> None:
    """A child in a session of its own outlives the worker, and not the run; the report names it."""
    body = """async def open(self, site):
    await super().open(site)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    Path(site.config.folder("sqlite"), "child").write_text(str(child.pid))"""
    done = chaos_command("run", chaos_command.write(_with_system(trivial(), body)), "--keep")
    pid = int((done.folder / "stores/sqlite/child").read_text())
    assert wait_until(lambda: gone(pid), 1.0)
    assert any("time.sleep(600)" in stray for stray in done.json("run.json")["stray_processes"])


def test_a_pause_that_finds_no_process_is_healed(chaos_command, trivial: Callable[..., str]) -> None:
    """A fault that could not be applied is told as not landed; the run is inconclusive, not unhealed."""
    rules = 'when.at("100ms").do(faults.Kill("redis")).never(), when.at("200ms").do(faults.Pause("redis")).never(),'
    done = chaos_command("run", chaos_command.write(trivial(rules).replace("seconds=1", "seconds=4")))
    assert done.code == 3, done.out + done.err
    ends = {entry["fault"]: entry["value"]["landed"] for entry in done.history() if entry["kind"] == "fault_end"}
    assert ends == {"f0": True, "f1": False}


def test_a_signal_while_cleaning_up_cuts_nothing_short(chaos_command, trivial: Callable[..., str]) -> None:
    """A second Ctrl-C during the take-down waits for it: no process is left, and the code is the first signal's."""
    text = trivial('when.at("100ms").do(faults.Pause("worker")).never(),').replace("seconds=1", "seconds=20")
    harness = subprocess.Popen(
        chaos_command.arguments("run", chaos_command.write(text)),
        cwd=chaos_command.folder,
        env=chaos_command.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ledgers = lambda: list(chaos_command.runs.glob("trivial/*/faults.jsonl"))  # noqa: E731
    assert wait_until(lambda: any('"applied"' in path.read_text() for path in ledgers()), 30.0)
    children = [int(word) for word in Path(f"/proc/{harness.pid}/task/{harness.pid}/children").read_text().split()]
    harness.send_signal(signal.SIGINT)
    harness.send_signal(signal.SIGTERM)
    assert harness.wait(20) in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert all(wait_until(lambda pid=pid: gone(pid), 1.0) for pid in children)
    (ledger,) = ledgers()
    assert '"healed"' in ledger.read_text()
    assert not (ledger.parent / "live").exists()


def _small_disk(folder: Path, size: str) -> bool:
    """Mount a small file system, if this user may."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux, to mount a small disk")
def test_a_disk_that_is_too_small_is_told_before_the_start(chaos_command, trivial: Callable[..., str]) -> None:
    """Too little space for a run is exit 4, before anything is started."""
    disk = chaos_command.folder / "disk"
    if not _small_disk(disk, "16m"):
        pytest.skip("this machine does not let us mount a small disk")
    try:
        done = chaos_command("run", chaos_command.write(trivial()), "--out", disk)
    finally:
        subprocess.run(["umount", disk], check=False)
    assert done.code == 4, done.out + done.err
    assert "MB free" in done.out


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux, to mount a small disk")
def test_a_disk_that_fills_up_midway_ends_the_run(chaos_command, trivial: Callable[..., str]) -> None:
    """The history has no room any more: exit 70, everything ended, and run.json says how it ended."""
    disk = chaos_command.folder / "disk"
    if not _small_disk(disk, "80m"):
        pytest.skip("this machine does not let us mount a small disk")
    # At each transaction anew: whoever deletes a file makes room, and a little is enough for a short history.
    body = """async def open(self, site):
    await super().open(site)
    self.filler = open(Path(site.config.data_folder).parent / "filler", "ab", buffering=0)

async def transact(self, request):
    try:
        while True:
            self.filler.write(bytes(4096))
    except OSError:
        pass
    return await super().transact(request)"""
    try:
        done = chaos_command("run", chaos_command.write(_with_system(trivial(), body)), "--out", disk)
        (manifest,) = disk.glob("trivial/*/run.json")
        run = json.loads(manifest.read_text())
        live = (manifest.parent / "live").exists()
    finally:
        subprocess.run(["umount", disk], check=False)
    assert done.code in (4, 70), done.out + done.err
    assert run["verdict"] in ("harness_failed", "not_started")
    assert not live
