"""The local images: made of programs of this machine, once, and never pulled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from chaos.backends.docker.build import CONTENT_LABEL, Recipe, build, toxiproxy
from chaos.backends.docker.images import obtain
from chaos.backends.docker.pull import Pull
from chaos.backends.redis_server import find_server
from chaos.errors import EnvironmentUnavailable

from .conftest import ROOT, SHORT, chaos


def test_the_command_makes_both_and_leaves_them_alone_afterwards(tmp_path: Path, daemon: docker.DockerClient) -> None:
    """The second call finds the same programs in the images and makes nothing."""
    assert chaos("images", "build", cwd=tmp_path).returncode == 0
    done = chaos("images", "build", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    images = {image["name"]: image for image in json.loads(done.stdout)["images"]}
    assert {name: image["variable"] for name, image in images.items()} == {
        "chaos/valkey:local": "CHAOS_REDIS_IMAGE",
        "chaos/toxiproxy:local": "CHAOS_TOXIPROXY_IMAGE",
    }
    for name, image in images.items():
        assert image["fresh"] is False
        assert daemon.images.get(name).id == image["id"]


def test_the_page_starts_local_images_with_the_stack_made_for_them() -> None:
    """compose.yaml asks with the official images' clients, which the local ones lack: its checks would never pass."""
    page = (ROOT / "docs/how-to/use-docker.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("$ docker compose")]
    assert "$ docker compose -f compose/compose.offline.yaml up --wait" in commands
    assert "$ docker compose -f compose/compose.yaml up --wait" in commands
    local = page.index("chaos/valkey:local")
    assert "compose.offline.yaml" in page[local : page.index("compose/compose.yaml up", local)]


def test_the_programs_run_in_the_images(images: dict[str, str], daemon: docker.DockerClient) -> None:
    """Each image starts its own program, the same one as on this machine."""
    server = daemon.containers.run("chaos/valkey:local", ["--version"], remove=True).decode().strip()
    assert server == find_server().version()
    assert daemon.containers.run("chaos/toxiproxy:local", ["-version"], remove=True).startswith(b"toxiproxy-server")


def test_another_program_makes_another_image(tmp_path: Path, daemon: docker.DockerClient) -> None:
    """A changed file is noticed; the image that lost its name to the new one is removed."""
    shell = shutil.which("bash")
    assert shell is not None
    note = tmp_path / "note"
    recipe = Recipe("chaos-test/note:local", {"/note": note}, (), ('CMD ["/note"]',))
    try:
        note.write_text("one")
        first = build(daemon, recipe)
        assert first.fresh
        assert not build(daemon, recipe).fresh
        note.write_text("two")
        second = build(daemon, recipe)
        assert second.fresh
        assert second.id != first.id
        assert CONTENT_LABEL in daemon.images.get(recipe.name).labels
        with pytest.raises(docker.errors.ImageNotFound):
            daemon.images.get(first.id)
    finally:
        daemon.images.remove(recipe.name)


def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a toxiproxy-server there is no image of one, and the sentence says how to get it."""
    monkeypatch.delenv("CHAOS_TOXIPROXY", raising=False)
    folders = os.environ["PATH"].split(os.pathsep)
    without = [folder for folder in folders if not (Path(folder) / "toxiproxy-server").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(without))
    with pytest.raises(EnvironmentUnavailable, match="no toxiproxy-server was found on PATH"):
        toxiproxy()
    done = chaos("images", "build", cwd=tmp_path)
    assert done.returncode == 4
    assert "no toxiproxy-server was found" in done.stderr


def test_a_local_name_is_never_pulled(daemon: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the local image is absent, nobody else is asked for one of that name."""
    monkeypatch.setattr("chaos.backends.docker.images.LOCAL", {"CHAOS_REDIS_IMAGE": "chaos-test/absent:local"})
    monkeypatch.setenv("CHAOS_REDIS_IMAGE", "chaos-test/absent:local")
    with pytest.raises(
        EnvironmentUnavailable, match="there is no image chaos-test/absent:local yet; run: chaos images build"
    ):
        obtain(daemon, "CHAOS_REDIS_IMAGE", Pull())


@pytest.fixture
def registry() -> Iterator[tuple[str, socket.socket]]:
    """A registry that takes connections and says nothing, ever: an image of it, and its socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield f"127.0.0.1:{listener.getsockname()[1]}/nobody/slow:1", listener


def test_a_pull_is_called_off(
    daemon: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, registry: tuple[str, socket.socket]
) -> None:
    """Whoever waits for a registry that is silent is told at once, and nothing is pulled any more."""
    name, listener = registry
    monkeypatch.setenv("CHAOS_REDIS_IMAGE", name)
    pull = Pull()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(obtain, daemon, "CHAOS_REDIS_IMAGE", pull)
        asked, _ = listener.accept()
        pull.call_off()
        with pytest.raises(EnvironmentUnavailable, match="the pull was called off"):
            waiting.result(5)
        asked.close()
    pull.call_off()
    with pytest.raises(EnvironmentUnavailable, match="the pull was called off"):
        obtain(daemon, "CHAOS_REDIS_IMAGE", pull)


def _run_with(name: str, folder: Path, wall: str) -> subprocess.Popen[str]:
    """Start a run that needs an image."""
    path = folder / "walled.py"
    text = SHORT.replace("Experiment, ", "Experiment, Limits, ", 1)
    path.write_text(text.replace("schedule=(),", f'limits=Limits(wall="{wall}"),'))
    return subprocess.Popen(
        [sys.executable, "-m", "chaos", "run", str(path), "--backend", "docker"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CHAOS_REDIS_IMAGE": name, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_pull_takes_no_longer_than_the_run_has(tmp_path: Path, registry: tuple[str, socket.socket]) -> None:
    """A wall that runs out before the steady state is "not started": nothing was tried, so nothing is inconclusive."""
    began = time.monotonic()
    run = _run_with(registry[0], tmp_path, "3s")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 4, out + err
    assert time.monotonic() - began < 9
    assert "limits.wall='3s' ran out before there was a steady state (in the phase: starting stores)" in out
    told = json.loads((tmp_path / "runs/latest/run.json").read_text())
    assert (told["verdict"], told["exit_code"]) == ("not_started", 4)


def test_a_pull_is_interrupted(tmp_path: Path, registry: tuple[str, socket.socket]) -> None:
    """Ctrl-C while an image is pulled ends the run at once."""
    run = _run_with(registry[0], tmp_path, "60s")
    asked, _ = registry[1].accept()
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    asked.close()
    assert run.returncode == 130, out + err
    assert time.monotonic() - began < 5


def test_an_image_that_cannot_be_had(daemon: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the image, the variable, and the way without a registry."""
    monkeypatch.setenv("CHAOS_REDIS_IMAGE", "127.0.0.1:1/nobody/nothing:1")
    with pytest.raises(EnvironmentUnavailable) as caught:
        obtain(daemon, "CHAOS_REDIS_IMAGE", Pull())
    assert caught.value.what.startswith("image 127.0.0.1:1/nobody/nothing:1 is not here and cannot be pulled (")
    assert "chaos images build" in caught.value.remedy
    assert "CHAOS_REDIS_IMAGE=chaos/valkey:local" in caught.value.remedy
