"""A compose stack: up on its own, lent to a run, given back as it was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import docker
import pytest
from tests_support import gone, wait_until

from chaos import faults
from chaos.backends.docker import sweep
from chaos.backends.docker.compose import ComposeEnvironment
from chaos.backends.docker.database import BEFORE_KEY, OWNER_KEY
from chaos.backends.docker.probe import Probe
from chaos.backends.docker.stack import restore
from chaos.backends.ownership import OWNER_FILE, Owner
from chaos.backends.ports import Reservation
from chaos.errors import EnvironmentUnavailable
from chaos.runner.leftovers import find
from chaos.runner.leftovers import remove as remove_all

from .conftest import ROOT, SHORT, PlaceLevers, Told, chaos, compose_command, through

pytestmark = pytest.mark.requires("compose")
OFFLINE = ROOT / "compose/compose.offline.yaml"


class Stack:
    """A stack of the tests' own: its project, its ports, and its user's view of it."""

    def __init__(self) -> None:
        """Nothing is up yet."""
        self.project = f"chaos-test-{uuid.uuid4().hex[:8]}"
        self.redis, self.api = Reservation(), Reservation()
        self.variables = {
            **os.environ,
            "CHAOS_REDIS_PORT": str(self.redis.port),
            "CHAOS_TOXIPROXY_PORT": str(self.api.port),
        }

    def __call__(self, *words: str) -> None:
        """Run a command of compose on it."""
        command = [*compose_command(), "-f", str(OFFLINE), "-p", self.project, *words]
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    @property
    def user(self) -> Probe:
        """The way of the stack's user to Redis."""
        return Probe("127.0.0.1", self.redis.port)

    def container(self, daemon: docker.DockerClient, service: str) -> Any:
        """Return the container of a service."""
        return daemon.containers.get(f"{self.project}-{service}-1")


@pytest.fixture(scope="module")
def lasting_stack(images: dict[str, str]) -> Iterator[Stack]:
    """One stack for all tests here: they must give it back anyhow."""
    stack = Stack()
    try:
        stack("up", "--wait")
        yield stack
    finally:
        stack("down", "--volumes", "--timeout", "1")
        stack.redis.close()
        stack.api.close()


@pytest.fixture
async def stack(
    lasting_stack: Stack, monkeypatch: pytest.MonkeyPatch, daemon: docker.DockerClient
) -> AsyncIterator[Stack]:
    """The stack, chosen; after the test it must run, hold nothing, and have only its user's proxy."""
    monkeypatch.setenv("CHAOS_COMPOSE_PROJECT", lasting_stack.project)
    yield lasting_stack
    state = lasting_stack.container(daemon, "redis").attrs["State"]
    assert (state["Running"], state["Paused"]) == (True, False)
    await lasting_stack.user.wait_ready()
    async with lasting_stack.user.client() as client:
        assert await client.keys() == []
        assert await client.config_get("appendfsync") == {"appendfsync": "always"}


@pytest.fixture
def attach(tmp_path: Path, told: Told) -> Callable[..., ComposeEnvironment]:
    """Return a maker of environments on the stack; the last note for the guardian is in `notes`."""

    def _attach(name: str = "run", notes: list[dict[str, Any]] | None = None, **redis: Any) -> ComposeEnvironment:
        folder = tmp_path / name
        for part in ("data", "logs"):
            (folder / part).mkdir(parents=True)
        on_stack = (notes if notes is not None else []).append
        return ComposeEnvironment(folder / "data", folder / "logs", redis=redis, on_server=told, on_stack=on_stack)

    return _attach


@pytest.fixture
def dead() -> Owner:
    """The mark of a harness of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = sweep.start_time(process.pid) or ""
    process.communicate()
    owner = Owner(Owner.this().place, process.pid, started)
    assert owner.state == "dead"
    return owner


def _harness(tmp_path: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a run on the stack in which Redis is frozen for a while, with settings of its own."""
    text = (ROOT / "experiments/redis_paused.py").read_text()
    changed = text.replace("stores.Redis()", 'stores.Redis(appendfsync="everysec")')
    assert changed != text
    (tmp_path / "paused.py").write_text(changed)
    return subprocess.Popen(
        [sys.executable, "-m", "chaos", "run", str(tmp_path / "paused.py"), "--backend", "compose", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _guardian_of(pid: int) -> int:
    """Return the pid of a harness's guardian."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(one) for one in children if b"guardian.py" in Path(f"/proc/{one}/cmdline").read_bytes())


async def _abandon(place: ComposeEnvironment) -> None:
    """Let go of the stack as a killed harness does: nothing is given back."""
    await place._leave()
    await place._calls.close()
    assert place._client is not None
    place._client.close()


def _live(tmp_path: Path, mark: str, note: dict[str, Any]) -> Path:
    """Make the live data of a run that was killed while it had the stack; return its note."""
    live = tmp_path / "runs/killed/20260301T101500.000Z-s7/live"
    live.mkdir(parents=True)
    (live / OWNER_FILE).write_text(mark + "\n")
    (live / "stack.json").write_text(json.dumps({**note, "owner": mark}))
    return live / "stack.json"


def _proxies(stack: Stack) -> list[str]:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{stack.api.port}/proxies", timeout=5) as answer:
        return sorted(json.load(answer))


async def test_lent_and_given_back(stack: Stack, attach: Callable[..., ComposeEnvironment], tmp_path: Path) -> None:
    """The run has proxies and settings of its own, and takes both away with its data when it leaves."""
    place = attach(appendfsync="everysec")
    try:
        await place.start()
        assert _proxies(stack) != ["redis"]
        assert place.identities["redis"]["appendfsync"] == "everysec"
        assert place.identities["redis"]["image"] == "chaos/valkey:local"
        async with through(place).client() as client:
            await client.set("mine", "1")
    finally:
        assert await place.stop() == []
    assert await place.stop() == []
    assert _proxies(stack) == ["redis"]
    assert (tmp_path / "run/logs/proxy.log").stat().st_size > 0


async def test_data_of_others_are_not_touched(stack: Stack, attach: Callable[..., ComposeEnvironment]) -> None:
    """A database that holds anything is refused, and holds the same afterwards."""
    async with stack.user.client() as client:
        await client.set("theirs", "precious")
        place = attach()
        try:
            with pytest.raises(EnvironmentUnavailable, match="holds 1 keys that are not of a run"):
                await place.start()
        finally:
            assert await place.stop() == []
        assert await client.keys() == ["theirs"]
        assert await client.get("theirs") == "precious"
        await client.delete("theirs")
    assert _proxies(stack) == ["redis"]


async def test_one_run_at_a_time(stack: Stack, attach: Callable[..., ComposeEnvironment]) -> None:
    """A second run is told who has the stack, and disturbs nothing."""
    first, second = attach("first"), attach("second")
    try:
        await first.start()
        with pytest.raises(EnvironmentUnavailable, match="in use by another run"):
            await second.start()
        assert await second.stop() == []
        await through(first).wait_ready()
    finally:
        assert await first.stop() == []


async def test_data_of_a_dead_run_are_cleaned_away(
    stack: Stack, attach: Callable[..., ComposeEnvironment], dead: Owner
) -> None:
    """What a killed run left in the database is nobody's any more, and the settings before it are given back."""
    async with stack.user.client() as client:
        await client.set(OWNER_KEY, dead.mark)
        await client.hset(BEFORE_KEY, "appendfsync", "always")
        await client.set("balance:1", "5")
        await client.config_set("appendfsync", "no")
    place = attach()
    try:
        await place.start()
        async with stack.user.client() as client:
            assert set(await client.keys()) == {OWNER_KEY, BEFORE_KEY}
    finally:
        assert await place.stop() == []


async def test_what_somebody_wrote_after_a_dead_run_is_not_touched(
    stack: Stack, attach: Callable[..., ComposeEnvironment], dead: Owner
) -> None:
    """A database of a dead run in which there are other keys now is refused, with their names, and left as it is."""
    binary = b"\xff\xfe"
    place = attach()
    async with stack.user.client() as client:
        for key in (OWNER_KEY, "balance:1", "invoice:1"):
            await client.set(key, dead.mark)
        await client.set(binary, "1")
        try:
            with pytest.raises(EnvironmentUnavailable, match=r"may not have made: invoice:1, \\xff\\xfe;"):
                await place.start()
            assert await place.stop() == []
            assert await client.dbsize() == 4
            assert await client.get(OWNER_KEY) == dead.mark
        finally:
            await place.stop()
            await client.delete(OWNER_KEY, "balance:1", "invoice:1", binary)
    assert _proxies(stack) == ["redis"]


async def test_faults_reach_the_stack_and_are_healed(stack: Stack, attach: Callable[..., ComposeEnvironment]) -> None:
    """Kill, freeze and pulled plug act on the user's own container; the durability asked for survives its restart."""
    place = attach(appendfsync="no")
    try:
        await place.start()
        levers = PlaceLevers(place)
        for fault in (faults.Kill("redis"), faults.Pause("redis"), faults.NetworkDisconnect("redis")):
            injection = await fault.inject(levers, "f0", Random(0))
            assert fault.landed(await fault.heal(levers, injection))
            await through(place).wait_ready()
            async with through(place).client() as client:
                assert await client.config_get("appendfsync") == {"appendfsync": "no"}
    finally:
        assert await place.stop() == []


@pytest.mark.parametrize(
    ("harm", "at_once"),
    [("paused", True), ("paused", False), ("killed", True), ("unplugged", False), ("bound", False)],
)
async def test_a_stack_is_restored_from_the_note(
    stack: Stack, attach: Callable[..., ComposeEnvironment], daemon: docker.DockerClient, harm: str, at_once: bool
) -> None:
    """Whatever holds when the harness dies, the note is enough to give the stack back, without data and settings."""
    notes: list[dict[str, Any]] = []
    place = attach(notes=notes, appendfsync="everysec")
    try:
        await place.start()
        assert place.containers is not None
        async with through(place).client() as client:
            await client.set("balance:1", "5")
        match harm:
            case "paused":
                await place.signal_redis(signal.SIGSTOP)
            case "killed":
                await place.redis_gone(await place.signal_redis(signal.SIGKILL), 5)
            case "unplugged":
                await place.containers.disconnect()
            case "bound":
                await place.containers.limit_memory(2**26)
        note = json.loads(json.dumps(notes[0]))
        swept = await asyncio.to_thread(restore, note, at_once=at_once)
        assert (swept.stuck, swept.spared) == ([], [])
        done = [text.partition(" ")[0] for text in swept.removed]
        # A server that was killed has forgotten the run's setting by itself.
        setting = [] if harm == "killed" else ["appendfsync=always"]
        assert done[1:] == ["proxy", *setting, "data", "proxy"], swept.removed
        assert _proxies(stack) == ["redis"]
        async with stack.user.client() as client:
            assert await client.keys() == []
            assert await client.config_get("appendfsync") == {"appendfsync": "always"}
        assert stack.container(daemon, "redis").attrs["HostConfig"]["Memory"] in (0, sweep.NO_BOUND_BYTES)
        assert [text for text in (await asyncio.to_thread(restore, note)).removed if "proxy" not in text] == []
    finally:
        await _abandon(place)


async def test_a_killed_harness_gives_the_stack_back(stack: Stack, tmp_path: Path, daemon: docker.DockerClient) -> None:
    """A harness killed while Redis is frozen: the guardian thaws it, and nothing of the run stays in the stack."""
    harness = _harness(tmp_path)
    try:
        assert wait_until(lambda: stack.container(daemon, "redis").attrs["State"]["Paused"], 60)
        assert _proxies(stack) != ["redis"]
        guardian = _guardian_of(harness.pid)
    finally:
        harness.kill()
        harness.wait()
    assert wait_until(lambda: gone(guardian), 20)
    assert not stack.container(daemon, "redis").attrs["State"]["Paused"]
    assert _proxies(stack) == ["redis"]
    assert not (tmp_path / "runs/latest/live").exists()
    run = json.loads((tmp_path / "runs/latest/run.json").read_text())
    assert (run["verdict"], run["message"]) == ("killed", "the harness was killed (SIGKILL)")
    async with stack.user.client() as client:
        assert await client.keys() == []
        assert await client.config_get("appendfsync") == {"appendfsync": "always"}


async def test_heal_spares_what_somebody_wrote_meanwhile(
    stack: Stack, tmp_path: Path, daemon: docker.DockerClient
) -> None:
    """The guardian was killed, too: the run's data go when `chaos heal` is called, and a key of a user's own stays."""
    harness = _harness(tmp_path)
    try:
        assert wait_until(lambda: stack.container(daemon, "redis").attrs["State"]["Paused"], 60)
        os.kill(_guardian_of(harness.pid), signal.SIGKILL)
    finally:
        harness.kill()
        harness.wait()
    stack.container(daemon, "redis").unpause()
    async with stack.user.client() as client:
        assert {OWNER_KEY, BEFORE_KEY, "marks"} <= set(await client.keys())
        assert await client.config_get("appendfsync") == {"appendfsync": "everysec"}
        await client.set("invoice:1", "precious")
        try:
            healed = await asyncio.to_thread(chaos, "heal", cwd=tmp_path)
            assert healed.returncode == 0, healed.stderr
            assert "left alone: data in the compose stack: invoice:1" in healed.stderr
            assert await client.keys() == ["invoice:1"]
            assert await client.config_get("appendfsync") == {"appendfsync": "always"}
            assert _proxies(stack) == ["redis"]
            run = await asyncio.to_thread(chaos, "run", tmp_path / "paused.py", "--backend", "compose", cwd=tmp_path)
            assert run.returncode == 4, run.stdout
            assert await client.get("invoice:1") == "precious"
            again = await asyncio.to_thread(chaos, "heal", cwd=tmp_path)
            assert (again.returncode, again.stdout) == (0, "nothing was left\n")
        finally:
            await client.delete("invoice:1")


BROKEN = """
from chaos.backends.docker.compose import ComposeEnvironment
from chaos.errors import HarnessError

async def refused(self):
    raise HarnessError("the daemon does not answer")

ComposeEnvironment._mend = ComposeEnvironment._clean = ComposeEnvironment._remove_proxies = refused
import sys
from chaos.cli.main import main
sys.exit(main())
"""


async def test_a_run_that_cannot_give_the_stack_back_leaves_that_to_heal(stack: Stack, tmp_path: Path) -> None:
    """Exit code 6, and `chaos heal` finds what it needs: the run's proxies, data and settings go later."""
    (tmp_path / "short.py").write_text(SHORT)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", BROKEN, "run", str(tmp_path / "short.py"), "--backend", "compose", "--seed", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    live = tmp_path / "runs/latest/live"
    assert done.returncode == 6, done.stdout + done.stderr
    assert "compose stack: the daemon does not answer (`chaos heal` tries again)" in done.stdout
    assert sorted(entry.name for entry in live.iterdir()) == ["owner", "stack.json"]
    assert _proxies(stack) != ["redis"]
    healed = await asyncio.to_thread(chaos, "heal", cwd=tmp_path)
    assert healed.returncode == 0, healed.stderr
    assert not live.exists()
    assert _proxies(stack) == ["redis"]
    async with stack.user.client() as client:
        assert await client.keys() == []
        assert await client.config_get("appendfsync") == {"appendfsync": "always"}


async def test_a_toxiproxy_that_was_restarted_has_lost_the_way(
    stack: Stack, attach: Callable[..., ComposeEnvironment], tmp_path: Path
) -> None:
    """The run's proxies are gone and its ports have changed: a way to the data is made, and taken away again."""
    notes: list[dict[str, Any]] = []
    place = attach(notes=notes)
    await place.start()
    try:
        stack("restart", "--timeout", "1", "toxiproxy")
        await stack.user.wait_ready()
        swept = await asyncio.to_thread(restore, notes[0])
        assert swept.stuck == []
        assert "data of the run in database 0" in swept.removed
        assert _proxies(stack) == ["redis"]
        async with stack.user.client() as client:
            assert await client.keys() == []
    finally:
        await _abandon(place)


async def test_a_stack_that_a_living_run_has_is_left_to_it(
    stack: Stack, attach: Callable[..., ComposeEnvironment], daemon: docker.DockerClient, dead: Owner, tmp_path: Path
) -> None:
    """What an earlier run left is not undone under one that is going on, whose faults look the same."""
    notes: list[dict[str, Any]] = []
    place = attach(notes=notes)
    try:
        await place.start()
        note = _live(tmp_path, dead.mark, notes[0])
        await place.signal_redis(signal.SIGSTOP)
        before = _proxies(stack)
        for at_once in (False, True):
            swept = await asyncio.to_thread(restore, {**notes[0], "owner": dead.mark}, at_once=at_once)
            assert swept.removed == []
            assert swept.stuck == [f"the stack is in use by process {os.getpid()}, whose run is going on"]
        found = await find(tmp_path / "runs", daemon=False)
        assert [thing.kind for thing, _ in found.things if thing.kind != "process"] == []
        assert {(thing.kind, reason) for thing, reason in found.kept if thing.kind != "process"} == {
            ("borrowed compose stack", "another run, which is going on, has the stack now"),
            ("live data", "another run, which is going on, has the stack now"),
        }
        assert stack.container(daemon, "redis").attrs["State"]["Paused"]
        assert _proxies(stack) == before
    finally:
        assert await place.stop() == []
    healed = await remove_all(await find(tmp_path / "runs", daemon=False))
    assert healed.stuck == []
    assert not note.parent.exists()


async def test_a_stack_that_its_user_took_down_needs_nothing(
    stack: Stack, attach: Callable[..., ComposeEnvironment], dead: Owner, tmp_path: Path
) -> None:
    """No container, so nothing to give back: `chaos heal` ends with 0, and what it needed for it is gone."""
    notes: list[dict[str, Any]] = []
    place = attach(notes=notes)
    try:
        await place.start()
    finally:
        assert await place.stop() == []
    note = _live(tmp_path, dead.mark, {**notes[0], "container": "0" * 64, "proxy_container": "1" * 64})
    healed = await asyncio.to_thread(chaos, "heal", cwd=tmp_path)
    assert healed.returncode == 0, healed.stderr
    assert not note.parent.exists()


async def test_a_toxiproxy_without_the_server_is_cleaned_all_the_same(
    stack: Stack, attach: Callable[..., ComposeEnvironment]
) -> None:
    """The container of Redis is another one by now: the proxies go, and so do data that the other one has inherited."""
    notes: list[dict[str, Any]] = []
    place = attach(notes=notes)
    try:
        await place.start()
        swept = await asyncio.to_thread(restore, {**notes[0], "container": "0" * 64})
        assert swept.stuck == []
        assert _proxies(stack) == ["redis"]
        async with stack.user.client() as client:
            assert await client.keys() == []
    finally:
        await _abandon(place)


@pytest.mark.slow
async def test_the_main_job_on_a_stack(stack: Stack, tmp_path: Path) -> None:
    """experiments/partition.py passes with --backend compose, and takes its proxies away."""
    done = await asyncio.to_thread(
        chaos, "run", ROOT / "experiments/partition.py", "--backend", "compose", "--seed", "1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert _proxies(stack) == ["redis"]


async def test_the_run_folder_has_the_same_shape(stack: Stack, tmp_path: Path) -> None:
    """Every name in it is that of an embedded run, but for the wire journal, which only our own proxy writes."""
    (tmp_path / "short.py").write_text(SHORT)
    names = {}
    for backend in ("embedded", "compose"):
        words = ("run", tmp_path / "short.py", "--backend", backend, "--seed", "1", "--out", tmp_path / backend)
        done = await asyncio.to_thread(chaos, *words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = (tmp_path / backend / "latest").resolve()
        names[backend] = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert names["embedded"] - names["compose"] == {"wire.jsonl"}
    assert names["compose"] - names["embedded"] == set()
    assert names["compose"] >= {"logs/redis.log", "logs/proxy.log", "logs/worker.log", "history.jsonl", "checks"}


def test_no_stack_is_up(tmp_path: Path) -> None:
    """Exit code 4, with the command that starts one."""
    done = chaos(
        "run",
        ROOT / "experiments/partition.py",
        "--backend",
        "compose",
        cwd=tmp_path,
        CHAOS_COMPOSE_PROJECT="chaos-test-absent",
    )
    assert done.returncode == 4
    assert "no compose stack 'chaos-test-absent' with the services redis and toxiproxy is up" in done.stdout
    assert "docker compose -f compose/compose.yaml up --wait" in done.stdout


@pytest.mark.parametrize("file", ["compose.yaml", "compose.offline.yaml"])
def test_the_files_say_what_they_promise(file: str) -> None:
    """Published on loopback only, Redis not at all, a named volume, a health check each, images by the two variables."""
    command = [*compose_command(), "-f", str(ROOT / "compose" / file), "config", "--format", "json"]
    done = subprocess.run(
        command,
        env={**os.environ, "CHAOS_REDIS_IMAGE": "some/redis:1", "CHAOS_TOXIPROXY_IMAGE": "some/toxiproxy:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == {"redis", "toxiproxy"}
    assert "ports" not in services["redis"]
    assert {port["host_ip"] for port in services["toxiproxy"]["ports"]} == {"127.0.0.1"}
    assert [volume["type"] for volume in services["redis"]["volumes"]] == ["volume"]
    assert all(service["healthcheck"]["test"] for service in services.values())
    assert "-host=0.0.0.0" in services["toxiproxy"]["command"]
    local = file == "compose.offline.yaml"
    wanted = ("chaos/valkey:local", "chaos/toxiproxy:local") if local else ("some/redis:1", "some/toxiproxy:1")
    assert (services["redis"]["image"], services["toxiproxy"]["image"]) == wanted
