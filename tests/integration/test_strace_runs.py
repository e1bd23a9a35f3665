"""Whole runs in which strace brings the file faults: chosen by itself for a static server, or asked for."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from tests_support import gone, wait_until

from chaos.backends.redis_server import find_server
from chaos.faults.disk import build

pytestmark = [pytest.mark.requires("redis", "kuzu", "shim", "strace"), pytest.mark.slow, pytest.mark.timeout(120)]

STATIC = """
    #include <unistd.h>
    int main(int count, char **words) { (void)count; return execv("{server}", words); }
"""

MIXED = """
        when.phase("redis.applying", nth=20)
        .do(faults.DiskError("redis", "EIO", call="fdatasync", path="appendonlydir/*.aof"))
        .heal(at=when.phase("acknowledged", nth=40)),
        when.phase("sqlite.committing", nth=50)
        .do(faults.TornWrite("sqlite", path="*-wal"))
        .heal(at=when.phase("acknowledged", nth=60)),
"""

ALL = """
        when.phase("sqlite.committing", nth=20)
        .do(faults.DiskError("sqlite", "EIO", call="sync", path="*-wal"))
        .heal(at=when.phase("acknowledged", nth=30)),
        when.phase("redis.applying", nth=40)
        .do(faults.DiskDelay("redis", "20ms"))
        .heal(at=when.phase("acknowledged", nth=50)),
        when.phase("graph.applying", nth=60)
        .do(faults.KillAtCall("graph", "write"))
        .heal(at=when.phase("acknowledged", nth=70)),
"""


@pytest.fixture
def static_server(tmp_path: Path) -> Path:
    """A static program that becomes the real server: what a static server looks like before it is started."""
    compiler = build.find_system_compiler()
    assert compiler is not None
    source, program = tmp_path / "server.c", tmp_path / "static-server"
    source.write_text(STATIC.replace("{server}", str(find_server().path)))
    subprocess.run([*compiler, "-static", "-o", program, source], check=True)
    return program


@pytest.mark.requires("compiler")
def test_a_static_server_is_reached_by_strace(chaos_command, trivial, static_server: Path) -> None:
    """Nothing was asked for: redis by strace and the others by the shim, in one run, and the run says so."""
    experiment = chaos_command.write(trivial(MIXED.strip()).replace("seconds=1", "seconds=3"))
    done = chaos_command("run", experiment, "--seed", "1", CHAOS_REDIS_SERVER=str(static_server))
    assert done.code == 0, done.out + done.err
    by = done.json("run.json")["file_faults"]
    assert by["sqlite"] == by["graph"] == "preload"
    assert "static-server is linked statically" in by["redis"]
    assert "redis: strace" in " ".join(done.out.split())
    redis, sqlite = [entry["value"]["evidence"] for entry in done.history() if entry["kind"] == "fault_end"]
    assert redis["calls_failed"] >= 1
    assert redis["processes_traced"] >= 1
    assert sqlite["processes_killed"] == 1
    assert "INJECTED" in (done.folder / "logs/strace-f0-1.calls").read_text()


@pytest.mark.deep
def test_every_store_by_strace(chaos_command, trivial) -> None:
    """Asked for, it takes the shim's place everywhere; what only the shim can judge is told as not judged."""
    experiment = chaos_command.write(trivial(ALL.strip()).replace("seconds=1", "seconds=3"))
    done = chaos_command("run", experiment, "--seed", "1", "--files", "strace")
    assert done.code == 0, done.out + done.err
    assert set(done.json("run.json")["file_faults"].values()) == {"strace (asked for)"}
    assert "not judged: synced" in done.out
    assert "--files strace" in (done.folder / "repro.txt").read_text()


def test_what_strace_cannot_do_is_refused_before_the_start(chaos_command, trivial) -> None:
    """`validate` and `run` say the same, with the reason; an experiment that asks for nothing of that is valid."""
    bad = chaos_command.write(trivial('when.at("100ms").do(faults.BitRot("redis")).never(),'), "bad.py")
    for verb in ("validate", "run"):
        done = chaos_command(verb, bad, "--files", "strace")
        assert done.code == 2
        assert "provider-cannot" in done.err
        assert "reads or writes" in done.err
    assert not chaos_command.runs.exists()
    good = chaos_command.write(trivial('when.at("100ms").do(faults.DiskError("redis")).never(),'), "good.py")
    assert chaos_command("validate", good, "--files", "strace").code == 0


@pytest.mark.deep
def test_nothing_outlives_a_harness_that_is_killed(chaos_command, trivial) -> None:
    """SIGKILL to the harness while strace is on the server: strace, server and worker end, too."""
    schedule = 'when.at("200ms").do(faults.DiskDelay("redis", "5ms")).never(),'
    experiment = chaos_command.write(trivial(schedule).replace("seconds=1", "seconds=30"))
    with (chaos_command.folder / "out").open("wb") as output:
        harness = subprocess.Popen(
            chaos_command.arguments("run", experiment, "--files", "strace"),
            cwd=chaos_command.folder,
            env=chaos_command.environment(),
            stdout=output,
            stderr=output,
        )
    assert wait_until(lambda: any(" attached" in log.read_text() for log in _logs(chaos_command.runs)), 30)
    ours = _below(harness.pid)
    assert any("strace" in name for name in ours.values())
    harness.send_signal(signal.SIGKILL)
    harness.wait(10)
    assert wait_until(lambda: all(map(gone, ours)), 10), [name for pid, name in ours.items() if not gone(pid)]


def _logs(runs: Path) -> list[Path]:
    return list(runs.glob("*/*/logs/strace-*.log"))


def _below(pid: int) -> dict[int, str]:
    """Return the descendants of a process, but for its guardian, by pid with their names."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "guardian" not in command:
                found |= {child: command, **_below(child)}
    return found
