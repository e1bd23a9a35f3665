"""What earlier runs left is found and removed; what is not ours, or belongs to a living run, stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests_support import gone, wait_until

from chaos.backends.docker import sweep
from chaos.backends.ownership import CLOSED, OWNER_FILE, OWNER_VARIABLE, Owner
from chaos.backends.toxiproxy import Toxiproxy
from chaos.backends.toxiproxy_server import ToxiproxyServer, find_toxiproxy
from chaos.runner.folder import STACK_FILE
from chaos.runner.leftovers import clear, find, remove

pytestmark = pytest.mark.alone
"""Each run on this machine looks for what dead ones left, and would find what these tests leave."""

SLEEPER = [sys.executable, "-c", "import time; time.sleep(120)"]
UPSTREAM = "127.0.0.1:9"
RUN = "20260301T101500.000Z-s7"


@pytest.fixture
def dead() -> Owner:
    """The mark of a harness of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = sweep.start_time(process.pid)
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    assert started is not None
    owner = Owner(Owner.this().place, process.pid, started)
    assert owner.state == "dead"
    return owner


@pytest.fixture
def others(dead: Owner) -> dict[str, str]:
    """Marks that must protect what carries them."""
    return {
        "alive": Owner.this().mark,
        "elsewhere": Owner("00000000", dead.pid, dead.started).mark,
        "unreadable": "somebody",
    }


@pytest.fixture
def sleeper() -> Iterator[Callable[[str | None], subprocess.Popen[bytes]]]:
    """Return a function that starts a process with a mark, or without one."""
    started: list[subprocess.Popen[bytes]] = []

    def start(mark: str | None) -> subprocess.Popen[bytes]:
        variables = dict(os.environ) if mark is None else {**os.environ, OWNER_VARIABLE: mark, "CHAOS_RUN": "/some/run"}
        started.append(subprocess.Popen(SLEEPER, env=variables))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


async def test_processes_of_a_dead_run_are_ended(
    dead: Owner, others: dict[str, str], sleeper: Callable[[str | None], subprocess.Popen[bytes]]
) -> None:
    """One that stands still, too; those of others go on."""
    left = [sleeper(dead.mark), sleeper(dead.mark)]
    left[1].send_signal(signal.SIGSTOP)
    foreign = [sleeper(None), *(sleeper(mark) for mark in others.values())]
    pids = {process.pid for process in left}

    def ours(names: list[str]) -> set[int]:
        return {pid for pid in pids if any(name.startswith(f"{pid} (") for name in names)}

    found = await find(None, daemon=False)
    assert all(process.poll() is None for process in left), "looking changes nothing"
    assert ours([thing.name for thing, _ in found.things if thing.kind == "process"]) == pids
    assert {thing.run for thing, _ in found.things if ours([thing.name])} == {"/some/run"}
    healed = await remove(found)
    assert ours([thing.name for thing in healed.removed]) == pids
    assert [process.wait(5) for process in left] == [-signal.SIGKILL] * 2
    assert [process.poll() for process in foreign] == [None] * 4
    reasons = {reason for thing, reason in found.kept if thing.name.startswith(tuple(str(one.pid) for one in foreign))}
    assert len(reasons) == len(others)


async def test_our_own_ancestors_are_spared(dead: Owner, tmp_path: Path) -> None:
    """A shell that the system under test started, and in which somebody types `chaos heal`, is not killed by it."""
    inner = f"{sys.executable} -m chaos heal --out {tmp_path} --json; echo survived"
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", inner],
        env={**os.environ, OWNER_VARIABLE: dead.mark},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith("survived\n"), done.stderr


def make_run(out: Path, mark: str | None, experiment: str = "partition") -> Path:
    """Make the folder of a run that was never ended."""
    folder = out / experiment / f"{RUN}-{uuid.uuid4().hex[:4]}"
    (folder / "live" / "data").mkdir(parents=True)
    (folder / "live" / "data" / "file").write_text("x")
    if mark is not None:
        (folder / "live" / OWNER_FILE).write_text(mark + "\n")
    (folder / "run.json").write_text(json.dumps({"verdict": "running", "harness": mark}))
    return folder


async def test_live_data_of_a_dead_run_are_removed(dead: Owner, others: dict[str, str], tmp_path: Path) -> None:
    """And its run.json says that it was killed; links are not followed, and nobody else's folders touched."""
    left = make_run(tmp_path, dead.mark)
    (tmp_path / "latest").symlink_to(left.relative_to(tmp_path), target_is_directory=True)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (left / "live" / "data" / "link").symlink_to(outside, target_is_directory=True)
    kept = [make_run(tmp_path, mark) for mark in others.values()] + [make_run(tmp_path, None)]
    foreign = tmp_path / "music" / "album" / "live"
    foreign.mkdir(parents=True)
    found = await find(tmp_path, daemon=False, manifests=True)
    assert [thing.name for thing, _ in found.things if thing.kind != "process"] == [str(left / "live")]
    assert {thing.name for thing, _ in found.kept if thing.kind == "live data"} == {str(one / "live") for one in kept}
    assert not any(str(foreign) in str(thing) for thing, _ in [*found.things, *found.kept])
    healed = await remove(found)
    assert healed.stuck == []
    assert not (left / "live").exists()
    assert (outside / "precious").exists()
    assert json.loads((left / "run.json").read_text())["verdict"] == "killed"
    assert all((one / "live" / "data" / "file").exists() for one in kept)
    assert all(json.loads((one / "run.json").read_text())["verdict"] == "running" for one in kept)
    assert foreign.is_dir()


async def test_a_record_that_says_running_is_finished(dead: Owner, others: dict[str, str], tmp_path: Path) -> None:
    """The live data are gone, and the guardian did not live to write it down."""
    left, alive = make_run(tmp_path, dead.mark), make_run(tmp_path, others["alive"])
    for folder in (left, alive):
        (folder / "live").rename(tmp_path / f"{folder.name}-gone")
    assert [one.name for one, _ in (await find(tmp_path, daemon=False)).things if one.kind != "process"] == []
    healed = await remove(await find(tmp_path, daemon=False, manifests=True))
    assert [one.name for one in healed.removed if one.kind == "unfinished record"] == [str(left / "run.json")]
    assert json.loads((left / "run.json").read_text())["verdict"] == "killed"
    assert json.loads((alive / "run.json").read_text())["verdict"] == "running"


async def test_what_is_needed_to_give_a_stack_back_stays(
    dead: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the daemon does not answer, neither the note nor the live data around it are removed."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    live = make_run(tmp_path, dead.mark) / "live"
    note = {"owner": dead.mark, "proxies": [], "container": "0" * 64, "proxy_container": "1" * 64, "network": "n"}
    (live / STACK_FILE).write_text(json.dumps(note))
    healed = await remove(await find(tmp_path, daemon=False))
    stuck = {thing.kind: reason for thing, reason in healed.stuck if thing.kind != "process"}
    assert set(stuck) == {"borrowed compose stack", "live data"}
    assert "not given back yet" in stuck["live data"]
    assert json.loads((live / STACK_FILE).read_text()) == note
    (live / STACK_FILE).unlink()
    assert (await remove(await find(tmp_path, daemon=False))).stuck == []
    assert not live.exists()


@pytest.fixture
async def toxiproxy(tmp_path: Path) -> AsyncIterator[Toxiproxy]:
    """A real Toxiproxy that several people share."""
    server = ToxiproxyServer(find_toxiproxy(), tmp_path / "toxiproxy.log")
    await server.start()
    yield server.client
    await server.stop()


@pytest.mark.requires("toxiproxy")
async def test_proxies_and_toxics_of_a_dead_run_are_removed(
    dead: Owner, others: dict[str, str], toxiproxy: Toxiproxy, tmp_path: Path
) -> None:
    """A proxy of others that a fault had closed is open again; whatever has another name is as it was."""
    del others["unreadable"]
    await toxiproxy.create(f"{dead.prefix}redis", "127.0.0.1:0", UPSTREAM)
    shared = await toxiproxy.create("shared", "127.0.0.1:0", UPSTREAM)
    await toxiproxy.create("off", "127.0.0.1:0", UPSTREAM, enabled=False)
    for name in (dead.prefix + "f0.request", dead.prefix + CLOSED):
        await toxiproxy.add_toxic("shared", name, "latency", "upstream", 1.0, {"latency": 1})
    await toxiproxy.disable("shared")
    kept = ["users.own", "chaos", "chaos.latency", "chaos.1.2.3"]
    for mark in others.values():
        kept.append(f"chaos.{mark}.f0")
        await toxiproxy.create(f"chaos.{mark}.redis", "127.0.0.1:0", UPSTREAM)
    for name in kept:
        await toxiproxy.add_toxic("shared", name, "noop", "downstream", 1.0, {})
    found = await find(tmp_path, daemon=False, toxiproxies=[toxiproxy])
    assert not (await toxiproxy.proxy("shared")).enabled, "looking changes nothing"
    assert (await remove(found)).stuck == []
    there = await toxiproxy.proxies()
    assert set(there) == {"shared", "off", *(f"chaos.{mark}.redis" for mark in others.values())}
    assert there["shared"].enabled
    assert there["shared"].port == shared.port
    assert [toxic.name for toxic in there["shared"].toxics] == kept
    assert not there["off"].enabled
    assert len([thing for thing, _ in found.kept if thing.kind in ("proxy", "toxic")]) == 2 * len(others)
    again = await find(tmp_path, daemon=False, toxiproxies=[toxiproxy])
    assert [thing for thing, _ in again.things if thing.kind in ("proxy", "toxic")] == []


@pytest.mark.requires("docker")
async def test_networks_and_volumes_of_a_dead_run_are_removed(dead: Owner, tmp_path: Path) -> None:
    """By label only; those of a living run, of another machine, and of people stay."""
    import docker

    client = docker.from_env()
    mark, name = f"{dead.pid}:{dead.started}", f"chaos-test-{uuid.uuid4().hex[:8]}"
    here, me = sweep.place(), Owner.this()
    labels: dict[str, dict[str, str]] = {
        "dead": {sweep.RUN_LABEL: name, sweep.HARNESS_LABEL: mark, sweep.PLACE_LABEL: here},
        "alive": {sweep.RUN_LABEL: name + "a", sweep.HARNESS_LABEL: f"{me.pid}:{me.started}", sweep.PLACE_LABEL: here},
        "elsewhere": {sweep.RUN_LABEL: name + "e", sweep.HARNESS_LABEL: mark, sweep.PLACE_LABEL: "other/pid:[1]"},
        "users": {"com.example": name},
    }
    made: list[Any] = []
    try:
        for whose, marks in labels.items():
            made.append(client.volumes.create(f"{name}-{whose}", labels=marks))
            made.append(client.networks.create(f"{name}-{whose}", labels=marks))
        found = await find(tmp_path, daemon=True)
        mine = {(one.kind, one.name) for one, _ in found.things if one.name.startswith(name)}
        assert mine == {("network", f"{name}-dead"), ("volume", f"{name}-dead")}
        healed = await remove(found)
        assert {(one.kind, one.name) for one in healed.removed} >= mine
        for whose in labels:
            there = [one for one in client.volumes.list() if one.name == f"{name}-{whose}"]
            there += client.networks.list(names=[f"{name}-{whose}"])
            assert len(there) == (0 if whose == "dead" else 2), whose
    finally:
        for one in made:
            try:
                one.remove()
            except docker.errors.NotFound:
                continue
        client.close()


async def test_a_docker_daemon_that_is_absent_is_a_remark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody needs a daemon to heal the rest."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    found = await find(tmp_path, daemon=True)
    assert len(found.remarks) == 1
    assert "no docker daemon answers" in found.remarks[0]


async def test_looking_never_keeps_a_run_from_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong is told in a line."""
    monkeypatch.setattr("chaos.runner.leftovers._find_folders", lambda *arguments: 1 / 0)
    assert await clear(tmp_path, daemon=False) == [
        "leftovers of earlier runs could not be looked for: ZeroDivisionError: division by zero"
    ]


def test_the_command_says_what_it_does(dead: Owner, chaos_command: Any) -> None:
    """A dry run removes nothing; then everything is removed; then there is nothing."""
    out = chaos_command.folder / "runs"
    live = make_run(out, dead.mark) / "live"
    alive = make_run(out, Owner.this().mark) / "live"
    before = chaos_command("heal", "--dry-run")
    assert (before.code, live.exists()) == (0, True)
    assert f"would remove live data {live}\n" in before.out
    assert f"left alone: live data {alive}: its run is going on\n" in before.err
    done = chaos_command("heal", "--json")
    document = json.loads(done.out)
    assert {"kind": "live data", "name": str(live), "run": ""} in document["removed"]
    assert {"kind": "live data", "name": str(alive), "run": "", "reason": "its run is going on"} in document[
        "left_alone"
    ]
    assert (done.code, document["exit_code"], document["stuck"], live.exists()) == (0, 0, [], False)
    again = chaos_command("heal")
    assert str(live) not in again.out + again.err
    assert alive.exists()


@pytest.mark.requires("toxiproxy")
async def test_what_resists_is_told_and_ends_with_6(dead: Owner, toxiproxy: Toxiproxy, chaos_command: Any) -> None:
    """A closed proxy whose port somebody has taken cannot be opened again."""
    shared = await toxiproxy.create("shared", "127.0.0.1:0", UPSTREAM)
    await toxiproxy.add_toxic("shared", dead.prefix + CLOSED, "noop", "downstream", 1.0, {})
    await toxiproxy.disable("shared")
    with socket.create_server(("127.0.0.1", shared.port)):
        done = await asyncio.to_thread(chaos_command, "heal", "--toxiproxy", toxiproxy.url)
    assert done.code == 6, done.err
    assert "could not remove toxic" in done.err
    assert "address already in use" in done.err
    healed = await asyncio.to_thread(chaos_command, "heal", "--toxiproxy", toxiproxy.url)
    assert healed.code == 0, healed.err
    assert (await toxiproxy.proxy("shared")).enabled


def test_every_run_begins_by_looking(dead: Owner, chaos_command: Any, trivial: Callable[..., str]) -> None:
    """One line on stderr, a list in run.json; a run that finds nothing says nothing."""
    live = make_run(chaos_command.runs, dead.mark) / "live"
    path = chaos_command.write(trivial())
    first = chaos_command("run", path, "--seed", "1", "--out", chaos_command.runs)
    assert first.code == 0, first.err
    assert not live.exists()
    assert f"earlier runs left something: removed live data {live}" in first.err
    assert f"removed live data {live}" in first.json("run.json")["leftovers"]
    second = chaos_command("run", path, "--seed", "1", "--out", chaos_command.runs)
    assert str(live) not in second.err
    assert second.json("run.json")["harness"]


@pytest.mark.requires("docker")
def test_an_embedded_run_asks_no_daemon(dead: Owner, chaos_command: Any, trivial: Callable[..., str]) -> None:
    """What is left in a daemon stays until somebody who uses it looks: `chaos heal`, or a run in containers."""
    import docker

    client = docker.from_env()
    name = f"chaos-test-{uuid.uuid4().hex[:8]}"
    labels = {
        sweep.RUN_LABEL: name,
        sweep.HARNESS_LABEL: f"{dead.pid}:{dead.started}",
        sweep.PLACE_LABEL: sweep.place(),
    }
    volume = client.volumes.create(name, labels=labels)
    try:
        run = chaos_command("run", chaos_command.write(trivial()), "--seed", "1", "--out", chaos_command.runs)
        assert run.code == 0, run.err
        assert name not in run.err
        volume.reload()
        healed = chaos_command("heal", "--out", chaos_command.runs)
        assert f"removed volume {name} of {name}\n" in healed.out
        with pytest.raises(docker.errors.NotFound):
            volume.reload()
    finally:
        sweep.remove(name, quiet_s=0)
        client.close()


def test_a_run_that_lost_its_guardian_too_is_healed(chaos_command: Any, trivial: Callable[..., str]) -> None:
    """Kill -9 of the harness and its guardian: the live data stay, say whose they are, and are removed later."""
    path = chaos_command.write(
        trivial('when.at("100ms").do(faults.Pause("worker")),').replace("seconds=1", "seconds=30")
    )
    harness = subprocess.Popen(
        chaos_command.arguments("run", path, "--seed", "1", "--out", chaos_command.runs),
        cwd=chaos_command.folder,
        env=chaos_command.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_until(lambda: any(chaos_command.runs.glob("*/*/faults.jsonl")), 30)
        assert wait_until(lambda: "applied" in next(chaos_command.runs.glob("*/*/faults.jsonl")).read_text(), 30)
        children = _children(harness.pid)
        guardians = [pid for pid in children if b"guardian.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(guardians) == 1
        os.kill(guardians[0], signal.SIGKILL)
    finally:
        harness.kill()
        harness.wait()
    assert wait_until(lambda: all(gone(pid) for pid in children), 5)
    live = next(chaos_command.runs.glob("*/*/live"))
    assert (live / OWNER_FILE).exists()
    done = chaos_command("heal", "--out", chaos_command.runs)
    assert done.code == 0, done.err
    assert f"removed live data {live}" in done.out
    assert not live.exists()
    assert json.loads((live.parent / "run.json").read_text())["verdict"] == "killed"


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
