"""Every process under the shim is found and ended, whoever started it, and nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.faults.disk import library
from chaos.faults.disk.control import Control
from chaos.runner import victims

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no shim elsewhere")

SLEEP = "import sys; print('up', flush=True); sys.stdin.read()"
MAPS = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(file, 4096)
if sys.argv[2] == "forks" and os.fork() == 0:
    os.setsid()
print("up", os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """A control file of nobody else's."""
    (tmp_path / "data").mkdir()
    with Control.create(tmp_path / "control", tmp_path / "data") as one:
        yield one


@pytest.fixture
def start() -> Iterator[object]:
    """Start Python code and wait until it says so, as many times as it will."""
    started: list[subprocess.Popen[bytes]] = []

    def _start(code: str, *arguments: str, ups: int = 1, **environment: str) -> list[int]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        started.append(process)
        assert process.stdout is not None
        words = [process.stdout.readline().split() for _ in range(ups)]
        return [int(word[1]) if len(word) > 1 else process.pid for word in words]

    yield _start
    for process in started:
        process.kill()
        process.communicate()


def test_those_that_map_the_control_file_and_those_that_will(control: Control, start) -> None:
    """A fork in a session of its own counts, and a program that has only been told of the file; others do not."""
    mapping = start(MAPS, str(control.path), "forks", ups=2)
    told = start(SLEEP, **{library.CONTROL: str(control.path)})
    start(SLEEP)
    assert victims.under(control.path) == {*mapping, *told}
    for pid in mapping:
        os.kill(pid, signal.SIGKILL)


def test_this_process_is_none(control: Control) -> None:
    """The harness maps the file as well, and lives on."""
    assert victims.under(control.path) == frozenset()


def test_a_look_at_some_only(control: Control, start) -> None:
    """Pids of others, under a number that was used before, are not taken for victims."""
    [other] = start(SLEEP)
    [ours] = start(SLEEP, **{library.CONTROL: str(control.path)})
    assert victims.under(control.path, [other, ours]) == {ours}


async def test_all_end_at_one_moment(control: Control, start) -> None:
    """They are killed, a forked one too, and the number is told; a bystander is left alone."""
    start(MAPS, str(control.path), "forks", ups=2)
    start(SLEEP, **{library.CONTROL: str(control.path)})
    [bystander] = start(SLEEP)
    assert await victims.fell(control) == (3, ())
    assert victims.under(control.path) == frozenset()
    os.kill(bystander, 0)


async def test_one_that_is_stopped_already_ends_too(control: Control, start) -> None:
    """A pause that another fault holds does not keep it alive."""
    [pid] = start(SLEEP, **{library.CONTROL: str(control.path)})
    os.kill(pid, signal.SIGSTOP)
    assert await victims.fell(control) == (1, ())


async def test_nobody_to_end(control: Control) -> None:
    """A machine on which nothing runs can lose power as well."""
    assert await victims.fell(control) == (0, ())
