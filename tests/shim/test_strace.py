"""File faults by strace, on a program that is linked statically: nothing can be preloaded into it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests_support import gone

from chaos._process import Child
from chaos.errors import EnvironmentUnavailable
from chaos.faults import BitRot, DiskDelay, DiskError, DiskFull, FsyncFails, FsyncLies, KillAtCall
from chaos.faults.base import STRUCK, Injection
from chaos.faults.disk.fault import DiskFault
from chaos.faults.disk.mechanisms import PRELOAD, STRACE, choose, is_static
from chaos.faults.disk.strace import StraceDisk

pytestmark = [pytest.mark.requires("strace", "compiler"), pytest.mark.timeout(60)]

GOOD = "write=4 sync=0"
FULL = "write=-28 sync=0"


@pytest.fixture(scope="session")
def static_program(compile_program: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The victim, linked statically."""
    source = tmp_path_factory.mktemp("static") / "rounds_static.c"
    source.write_text((Path(__file__).parent / "victims" / "rounds.c").read_text())
    return compile_program(source, flags=("-static", "-pthread"))


class Victim:
    """The program at work on a file of a store, one round for each letter."""

    def __init__(self, program: Path, file: Path) -> None:
        """Start it and see that it works."""
        self.process = subprocess.Popen([program, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.rounds("w") == [GOOD]

    def rounds(self, letters: str) -> list[str]:
        """Let it do these rounds and return what it says; "" once it is dead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(letters)
        self.process.stdin.flush()
        return [self.process.stdout.readline().strip() for _ in letters]


class Bench:
    """A victim, the lever on it, and the straces that were started."""

    def __init__(self, program: Path, folder: Path) -> None:
        """Make the store's folder and start the victim on "log" in it."""
        self.store, self.logs = folder / "data" / "store", folder / "logs"
        self.store.mkdir(parents=True)
        self.logs.mkdir()
        self.straces: list[Child] = []
        self.victim = Victim(program, self.store / "log")
        self.lever = StraceDisk(self.store, self.logs, lambda: [self.victim.process.pid], on_child=self.straces.append)

    def disk(self, store: str) -> StraceDisk:
        """Return the lever, as an environment does."""
        assert store == "store"
        return self.lever

    async def inject(self, fault: DiskFault) -> Injection:
        """Inject a fault as `f0`."""
        levers: Any = self
        return await fault.inject(levers, "f0", Random(0))

    async def heal(self, fault: DiskFault, injection: Injection) -> dict[str, Any]:
        """Heal it and return the evidence; nothing of strace is left then."""
        levers: Any = self
        evidence = dict(await fault.heal(levers, injection))
        assert all(child.status is not None for child in self.straces)
        return evidence


@pytest.fixture
def bench(static_program: Path, tmp_path: Path) -> Iterator[Bench]:
    """A bench whose victim is gone at the end."""
    made = Bench(static_program, tmp_path)
    yield made
    made.victim.process.kill()
    made.victim.process.communicate()


def test_a_static_program_gets_strace_and_others_the_shim(static_program: Path) -> None:
    """The mechanism is chosen by what the program is, and the reason names it."""
    assert is_static(static_program)
    chosen = choose("auto", ("sqlite", "redis"), static_program)
    assert chosen["sqlite"].name == PRELOAD
    assert chosen["redis"].name == STRACE
    assert "rounds_static" in chosen["redis"].reason
    with pytest.raises(EnvironmentUnavailable, match="statically"):
        choose("preload", ("redis",), static_program)


@pytest.mark.parametrize(
    ("fault", "said", "counted"),
    [
        (DiskError("store", error="ENOSPC", nth=2, count=2), [GOOD, FULL, FULL, GOOD], {"calls_failed": 2}),
        (DiskError("store", call="fsync", count=0, path="lo?"), ["write=4 sync=-5"] * 4, {"calls_failed": 4}),
        (FsyncFails("store"), ["write=4 sync=-5", GOOD, GOOD, GOOD], {"calls_failed": 1}),
        (DiskFull("store"), [FULL] * 4, {"calls_failed": 4}),
        (DiskDelay("store", "30ms", count=0), [GOOD] * 4, {"calls_delayed": 4}),
        (FsyncLies("store"), [GOOD] * 4, {"calls_lied_to": 4}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, DiskFault) else "",
)
async def test_it_hurts_as_promised(bench: Bench, fault: DiskFault, said: list[str], counted: dict[str, int]) -> None:
    """Each fault is seen by the program as declared, is counted and timed, and healed: then all is as before."""
    injection = await bench.inject(fault)
    began = time.monotonic_ns()
    assert bench.victim.rounds("wwww") == said
    took_s = (time.monotonic_ns() - began) / 1e9
    evidence = await bench.heal(fault, injection)
    assert {name: evidence[name] for name in counted} == counted
    assert fault.landed(evidence)
    assert began < evidence[STRUCK] < time.monotonic_ns()
    assert took_s >= (0.12 if isinstance(fault, DiskDelay) else 0)
    assert bench.victim.rounds("w") == [GOOD]


async def test_a_kill_comes_before_the_call(bench: Bench) -> None:
    """The process dies at its second sync, whose write is in the file and was never answered."""
    fault = KillAtCall("store", "sync", nth=2)
    injection = await bench.inject(fault)
    assert bench.victim.rounds("ww") == [GOOD, ""]
    assert bench.victim.process.wait(10) == -signal.SIGKILL
    evidence = await bench.heal(fault, injection)
    assert evidence["processes_killed"] == 1
    assert fault.landed(evidence)
    assert (bench.store / "log").read_text() == "0123" * 3


async def test_files_that_the_glob_does_not_mean_are_spared(bench: Bench) -> None:
    """A rule on another file does nothing and has not landed."""
    (bench.store / "other").write_text("")
    fault = DiskError("store", path="oth*", count=0)
    injection = await bench.inject(fault)
    assert bench.victim.rounds("ww") == [GOOD, GOOD]
    assert not fault.landed(await bench.heal(fault, injection))


async def test_a_glob_without_a_file_is_refused(bench: Bench) -> None:
    """What strace cannot follow is told, and not silently harmless."""
    with pytest.raises(EnvironmentUnavailable, match="none of the files"):
        await bench.inject(DiskError("store", path="*-wal"))


async def test_threads_and_children_are_followed(bench: Bench) -> None:
    """A thread and a process that begin later are under the fault like the rest."""
    fault = DiskError("store", count=0)
    injection = await bench.inject(fault)
    assert bench.victim.rounds("tf") == ["write=-5 sync=0"] * 2
    assert (await bench.heal(fault, injection))["calls_failed"] == 2
    assert bench.victim.rounds("tf") == [GOOD] * 2


async def test_a_process_that_is_started_later_is_reached(bench: Bench, static_program: Path) -> None:
    """Whoever starts a process tells of it, and it gets a strace of its own."""
    fault = DiskError("store", count=0)
    injection = await bench.inject(fault)
    later = Victim(static_program, bench.store / "log")
    bench.lever.started(later.process.pid)
    await asyncio.gather(*bench.lever._faults["f0"].tasks)
    assert later.rounds("w") == ["write=-5 sync=0"]
    assert (await bench.heal(fault, injection))["processes_traced"] == 2
    assert later.rounds("w") == [GOOD]
    later.process.kill()
    later.process.communicate()


async def test_two_faults_at_once_on_one_process_are_refused(bench: Bench) -> None:
    """A process has one tracer: the second fault says so, and the first goes on."""
    first, second = DiskError("store", count=0), DiskDelay("store", "1ms")
    injection = await bench.inject(first)
    levers: Any = bench
    with pytest.raises(EnvironmentUnavailable, match="one fault with strace at a time"):
        await second.inject(levers, "f1", Random(0))
    await second.heal(levers, Injection("f1"))
    assert bench.victim.rounds("w") == ["write=-5 sync=0"]
    await bench.heal(first, injection)


async def test_a_fault_that_counts_is_over_when_it_has_struck(bench: Bench) -> None:
    """Once it has struck so often strace is taken off, since a new thread would count from 1 again."""
    fault = DiskError("store", count=1)
    injection = await bench.inject(fault)
    assert bench.victim.rounds("w") == ["write=-5 sync=0"]
    assert await bench.straces[0].wait(10) is not None
    assert bench.victim.rounds("tw") == [GOOD, GOOD]
    assert (await bench.heal(fault, injection))["calls_failed"] == 1


async def test_the_victim_outlives_a_tracer_that_is_killed(bench: Bench) -> None:
    """SIGKILL to strace lets the program go on as it was; what ends it is somebody else."""
    fault = DiskError("store", count=0)
    injection = await bench.inject(fault)
    await bench.straces[0].kill()
    assert bench.victim.rounds("w") == [GOOD]
    assert not gone(bench.victim.process.pid)
    await bench.heal(fault, injection)


async def test_data_and_logs_are_refused(bench: Bench) -> None:
    """What strace cannot do has a reason, which validation tells before anything starts."""
    assert "reads or writes" in str(BitRot("store").refused_by("strace"))
    with pytest.raises(Exception, match="reads or writes"):
        await bench.inject(BitRot("store"))
    assert os.listdir(bench.logs) == []  # noqa: PTH208  # names are enough
