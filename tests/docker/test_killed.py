"""A killed harness, and what the guardian makes of its containers."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import textwrap
import uuid
from argparse import Namespace
from pathlib import Path
from typing import Any

import docker
import pytest
from tests_support import gone, wait_until

from chaos.backends.docker import sweep

from .conftest import ROOT, mine

HARNESS = """
import asyncio, http.client, os, pathlib, signal, sys
from chaos.backends.docker.environment import DockerEnvironment
from chaos.runner.guardian import Guardian

ending, countdown, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
begin, wait = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.getresponse

def putrequest(self, method, path, *arguments, **named):
    self.asked = path.partition("?")[0]
    return begin(self, method, path, *arguments, **named)

def getresponse(self):
    global countdown
    countdown -= self.asked.endswith(ending)
    if countdown == 0:
        os.kill(os.getpid(), signal.SIGKILL)  # the daemon has the request, and nobody will read its answer
    return wait(self)

http.client.HTTPConnection.putrequest, http.client.HTTPConnection.getresponse = putrequest, getresponse
guardian = Guardian()
print(guardian.pid, flush=True)
guardian.watch_containers(str(folder))
for part in ("data", "logs"):
    (folder / part).mkdir(parents=True)
place = DockerEnvironment(
    folder / "data", folder / "logs", run_id=str(folder), redis={}, on_server=lambda *told: None
)
asyncio.run(place.start())
"""


@pytest.mark.usefixtures("local_images")
def test_a_killed_harness_leaves_no_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill -9 while five faults hold, one of them in the network and one in the freezer: all is gone."""
    path = ROOT / "benchmarks/killed_harness.py"
    spec = importlib.util.spec_from_file_location("killed_harness", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    module.write_experiment(tmp_path / "killed.py", "docker")
    text = (tmp_path / "killed.py").read_text()
    assert text.count(".do(faults.") == module.FAULTS == 5
    assert "faults.NetworkDisconnect" in text
    assert 'faults.Pause("redis")' in text
    ended = module.run_once(tmp_path, Namespace(backend="docker", proxy="embedded"), 0.1)
    assert ended.left == []
    assert ended.seconds < module.GIVE_UP_S
    assert mine(tmp_path) == []


@pytest.mark.usefixtures("local_images")
@pytest.mark.parametrize(
    ("request_of", "nth"),
    [
        ("/networks/create", 1),
        ("/networks/create", 2),
        ("/volumes/create", 1),
        ("/containers/create", 1),
        ("/containers/create", 2),
        ("/start", 1),
    ],
)
def test_a_harness_that_is_killed_while_it_starts_leaves_nothing(tmp_path: Path, request_of: str, nth: int) -> None:
    """Whatever the daemon was just asked to make when the harness died, the guardian waits for it and removes it."""
    command = [sys.executable, "-c", textwrap.dedent(HARNESS), request_of, str(nth), str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    guardian = int(done.stdout)
    assert wait_until(lambda: gone(guardian), 20)
    assert not wait_until(lambda: mine(tmp_path) != [], 1.0), "the daemon made something after the guardian had left"


def test_what_the_daemon_makes_after_the_look_is_removed(
    daemon: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that comes into being when all kinds have been looked for once is found by the next look."""
    run, name = str(tmp_path / "run"), f"chaos-test-{uuid.uuid4().hex[:8]}"
    looked: list[str] = []
    look = sweep.Daemon.labelled

    def _labelled(self: sweep.Daemon, kind: str, label: str) -> list[dict[str, Any]]:
        found = look(self, kind, label)
        if looked.count("volume") == 0 and kind == "volume":
            daemon.networks.create(name, labels=sweep.harness_labels(run))
        looked.append(kind)
        return found

    monkeypatch.setattr(sweep.Daemon, "labelled", _labelled)
    swept = sweep.remove(run)
    assert (swept.removed, swept.stuck) == ([f"network {name}"], [])
    assert looked.count("network") > 3
