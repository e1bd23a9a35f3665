"""Whole runs: what they print, leave behind and end with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_support import gone, wait_until

pytestmark = [pytest.mark.requires("redis", "kuzu"), pytest.mark.slow]


def test_a_run_without_faults_passes_and_its_folder_is_complete(chaos_command, trivial: Callable[..., str]) -> None:
    """Exit 0; every file of the reference is there; the seed is the first and the last thing printed."""
    done = chaos_command("run", chaos_command.write(trivial()), "--seed", "5")
    assert done.code == 0, done.out + done.err
    lines = done.out.strip().splitlines()
    assert lines[0] == lines[-1]
    assert "seed 5" in lines[0]
    assert "--seed 5" in lines[0]
    names = {path.name for path in done.folder.iterdir()}
    assert names == {
        "run.json",
        "plan.json",
        "history.jsonl",
        "faults.jsonl",
        "checks",
        "metrics.json",
        "metrics.prom",
        "report.txt",
        "logs",
        "repro.txt",
        "wire.jsonl",
    }
    run = done.json("run.json")
    assert (run["verdict"], run["exit_code"], run["seed"]) == ("pass", 0, 5)
    assert run["versions"]["kuzu"]
    assert run["stores"]["redis"]["version"]
    checks = {path.stem for path in (done.folder / "checks").glob("*.json")}
    assert checks == set(done.json("plan.json")["checks"])
    assert all(json.loads(path.read_text())["valid"] == "valid" for path in (done.folder / "checks").glob("*.json"))


def test_every_acknowledged_transaction_was_synced(chaos_command, trivial: Callable[..., str]) -> None:
    """The shim's count of syncs rises between `committing` and `committed`, so the check is not vacuous."""
    done = chaos_command("run", chaos_command.write(trivial()), "--seed", "1")
    steps = [entry for entry in done.history() if entry["f"] in ("sqlite.committing", "sqlite.committed")]
    assert steps
    assert all(isinstance(entry["value"]["syncs"], int) for entry in steps)
    assert done.code == 0


def test_a_stored_run_is_judged_again(chaos_command, trivial: Callable[..., str]) -> None:
    """`check RUN` gives the verdict of the run, and another one once the history is altered."""
    done = chaos_command("run", chaos_command.write(trivial()), "--seed", "2")
    again = chaos_command("check", done.folder)
    assert (done.code, again.code) == (0, 0)
    history = done.folder / "history.jsonl"
    lines = history.read_text().splitlines()
    reads = [index for index, line in enumerate(lines) if json.loads(line)["f"] == "read_back" and '"stores"' in line]
    entry = json.loads(lines[reads[-1]])
    token = next(iter(entry["value"]["stores"]["redis"]["marks"]))
    del entry["value"]["stores"]["redis"]["marks"][token]
    lines[reads[-1]] = json.dumps(entry)
    history.write_text("\n".join(lines) + "\n")
    torn = chaos_command("check", done.folder)
    assert torn.code == 1
    assert token in torn.out


def test_a_fault_that_never_lands_is_inconclusive(chaos_command, trivial: Callable[..., str]) -> None:
    """A rule for a phase that is never reached often enough proves nothing: exit 3."""
    rule = 'when.phase("sqlite.committed", nth=100000).do(faults.Kill("worker")),'
    done = chaos_command("run", chaos_command.write(trivial(rule)))
    assert done.code == 3, done.out + done.err
    assert "f0" in done.out
    assert (done.folder / "stores" / "sqlite").is_dir(), "a run that did not pass keeps copies of the stores"


def test_a_missing_server_is_told(chaos_command, trivial: Callable[..., str]) -> None:
    """Exit 4, with the variable's name and value; nothing was started."""
    done = chaos_command("run", chaos_command.write(trivial()), CHAOS_REDIS_SERVER="/no/such/server")
    assert done.code == 4
    assert "CHAOS_REDIS_SERVER=/no/such/server" in done.out + done.err
    assert done.json("run.json")["verdict"] == "not_started"
    assert not (done.folder / "live").exists()


def test_a_server_that_does_not_start_is_told(chaos_command, trivial: Callable[..., str]) -> None:
    """A program that ends at once is exit 4, with its status."""
    done = chaos_command("run", chaos_command.write(trivial()), CHAOS_REDIS_SERVER="/bin/false")
    assert done.code == 4
    assert "/bin/false ended with status 1" in done.out + done.err


def test_a_place_that_cannot_be_written_is_told(chaos_command, trivial: Callable[..., str]) -> None:
    """Exit 4, and the way out is --out."""
    blocker = chaos_command.folder / "blocker"
    blocker.write_text("")
    done = chaos_command("run", chaos_command.write(trivial()), "--out", blocker)
    assert done.code == 4
    assert "--out" in done.out + done.err


def test_a_system_that_does_not_open_is_told(chaos_command, trivial: Callable[..., str]) -> None:
    """A coordinator whose set_up raises is exit 4, with its own words."""
    text = trivial().replace('id="trivial",', 'id="trivial", system=systems.Own("Broken"),')
    text = text.replace("import Experiment", "import systems, Experiment")
    text += """
    class Broken:
        async def set_up(self, site):
            raise ValueError("no schema today")
    """
    done = chaos_command("run", chaos_command.write(text))
    assert done.code == 4
    assert "no schema today" in done.out + done.err


def test_a_run_over_its_wall_time_is_stopped(chaos_command, trivial: Callable[..., str]) -> None:
    """limits.wall ends a run that takes longer; it is never a pass, and nothing is left."""
    text = trivial().replace("seconds=1", "seconds=30").replace("schedule=", 'limits=Limits(wall="3s"), schedule=')
    text = text.replace("import Experiment", "import Limits, Experiment")
    done = chaos_command("run", chaos_command.write(text))
    if done.code == 2:  # validation may know already that it cannot fit
        assert "wall" in done.err
    else:
        assert done.code == 3
        assert not (done.folder / "live").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_heals_and_completes_the_folder(chaos_command, trivial: Callable[..., str], number: int) -> None:
    """Exit 128+n; the fault that held is healed in the ledger; run.json says interrupted; no process is left."""
    text = trivial('when.at("100ms").do(faults.Partition("redis")).never(),').replace("seconds=1", "seconds=20")
    harness = _start(chaos_command, text)
    ledger = _wait_for_ledger(chaos_command, '"applied"')
    children = _children(harness.pid)
    assert children
    harness.send_signal(number)
    assert harness.wait(20) == 128 + number
    assert all(wait_until(lambda pid=pid: gone(pid), 1.0) for pid in children)
    states = [json.loads(line)["state"] for line in ledger.read_text().splitlines()]
    assert states == ["intended", "applied", "healed"]
    run = json.loads((ledger.parent / "run.json").read_text())
    assert (run["verdict"], run["exit_code"]) == ("interrupted", 128 + number)
    assert not (ledger.parent / "live").exists()
    assert (ledger.parent / "report.txt").exists()


def test_after_a_kill_of_the_harness_nothing_is_left(chaos_command, trivial: Callable[..., str]) -> None:
    """SIGKILL: every child is gone within a second, the live data too, and run.json says killed."""
    text = trivial('when.at("100ms").do(faults.Pause("worker")).never(),').replace("seconds=1", "seconds=20")
    harness = _start(chaos_command, text)
    ledger = _wait_for_ledger(chaos_command, '"applied"')
    children = _children(harness.pid)
    harness.kill()
    harness.wait()
    assert all(wait_until(lambda pid=pid: gone(pid), 1.0) for pid in children)
    assert wait_until(lambda: not (ledger.parent / "live").exists(), 2.0)
    assert wait_until(lambda: json.loads((ledger.parent / "run.json").read_text())["verdict"] == "killed", 2.0)


HANGING = """
    import time

    from chaos.transactions.redo import RedoSystem


    class Hangs(RedoSystem):
        async def transact(self, request):
            if request.token == "c0.3":
                time.sleep(1000)
            return await super().transact(request)
"""


def test_a_worker_that_hangs_is_killed_and_replaced(chaos_command, trivial: Callable[..., str]) -> None:
    """A blocked process is an observation: it is killed after its silence, and what it owed is resolved."""
    text = trivial().replace('id="trivial",', 'id="trivial", system=systems.Own("Hangs"),')
    text = text.replace("import Experiment", "import systems, Experiment") + HANGING
    done = chaos_command("run", chaos_command.write(text), "--seed", "1")
    entries = done.history()
    (hung,) = [entry for entry in entries if entry["f"] == "worker_hung"]
    assert hung["value"]["silent_s"] > 1
    after = [entry for entry in entries if entry["index"] > hung["index"]]
    assert any(entry["f"] == "worker_exited" and entry["value"]["status"] == -9 for entry in after)
    assert any(entry["f"] == "resolve" and entry["token"] == "c0.3" for entry in after)
    assert done.code == 0, done.out + done.err


def test_a_server_that_ends_by_itself_is_started_again(chaos_command, trivial: Callable[..., str]) -> None:
    """A server that gives up over a failed sync of its log is an observation, and comes back."""
    rule = 'when.at("300ms").do(faults.DiskError("redis", error="EIO", call="sync", path="*.aof")).heal(after="1s"),'
    done = chaos_command("run", chaos_command.write(trivial(rule).replace("seconds=1", "seconds=3")), "--seed", "1")
    entries = done.history()
    exits = [entry for entry in entries if entry["f"] == "server_exited"]
    assert [entry["value"]["status"] for entry in exits] == [1]
    assert any(entry["f"] == "server_started" and entry["index"] > exits[0]["index"] for entry in entries)
    assert done.code == 0, done.out + done.err


def test_an_unplanned_end_of_the_proxy_is_the_harness_failing(chaos_command, trivial: Callable[..., str]) -> None:
    """The proxy is part of the harness: its death is exit 70 and no finding on a store."""
    harness = _start(
        chaos_command,
        trivial('when.at("100ms").do(faults.Partition("redis")).heal(after="200ms"),').replace(
            "seconds=1", "seconds=20"
        ),
    )
    ledger = _wait_for_ledger(chaos_command, '"healed"')
    (proxy,) = [pid for pid in _children(harness.pid) if b"chaos.faults.network.server" in _command_line(pid)]
    os.kill(proxy, signal.SIGKILL)
    assert harness.wait(30) == 70
    run = json.loads((ledger.parent / "run.json").read_text())
    assert run["verdict"] == "harness_failed"
    assert "proxy" in run["message"]


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_several_runs_at_once_do_not_meet(chaos_command, trivial: Callable[..., str]) -> None:
    """Three runs of one file at the same time all pass, each in its own folder."""
    rule = 'when.at("200ms").do(faults.Latency("redis", "5ms")).heal(after="600ms"),'
    path = chaos_command.write(trivial(rule))
    command = chaos_command.arguments("run", path, "--seed", "3")
    running = [
        subprocess.Popen(
            command,
            cwd=chaos_command.folder,
            env=chaos_command.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    ended = [(process.communicate(timeout=90)[0], process.returncode) for process in running]
    assert [code for _, code in ended] == [0, 0, 0], "\n".join(text for text, _ in ended)
    assert len(list(chaos_command.runs.glob("trivial/*"))) == 3


def _start(chaos_command, text: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        chaos_command.arguments("run", chaos_command.write(text)),
        cwd=chaos_command.folder,
        env=chaos_command.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_for_ledger(chaos_command, text: str) -> Path:
    """Wait until the run's heal ledger holds `text`, and return its path."""

    def holds() -> bool:
        return any(text in path.read_text() for path in chaos_command.runs.glob("trivial/*/faults.jsonl"))

    assert wait_until(holds, 30.0)
    return next(chaos_command.runs.glob("trivial/*/faults.jsonl"))


def _children(pid: int) -> list[int]:
    """Return the pids of all descendants."""
    direct = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [below for child in direct for below in _children(child)]
