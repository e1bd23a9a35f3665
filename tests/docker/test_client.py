"""A daemon that is absent, forbidden, too old or somebody else's: one clear sentence, and exit code 4."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from chaos.backends.docker.client import connect, demand_daemon
from chaos.backends.docker.sweep import DEFAULT_ADDRESS, daemon_address
from chaos.errors import EnvironmentUnavailable

from .conftest import ROOT, chaos

NOBODY = 65534


def saying(text: bytes) -> type[BaseHTTPRequestHandler]:
    """Return a handler that answers everything with the text given."""

    class Handler(BaseHTTPRequestHandler):
        """Says always the same."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def address_string(self) -> str:
            return "a socket"

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

    return Handler


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Return what makes DOCKER_HOST a server that answers everything with the text given.

    Too old a daemon cannot be had, so it is the one thing here that is played.
    """
    servers: list[socketserver.UnixStreamServer] = []

    def _answer(text: bytes) -> None:
        server = socketserver.UnixStreamServer(str(tmp_path / "docker.sock"), saying(text))
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")

    yield _answer
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_real_daemon_is_taken() -> None:
    """The witness of all the refusals below: a daemon that is here and new enough is used."""
    told = demand_daemon()
    client = connect()
    try:
        assert client.version()["Version"] == told["Version"]
        assert client.api.api_version == told["ApiVersion"]
    finally:
        client.close()


def test_absent(tmp_path: Path) -> None:
    """Nothing at the socket: the run is not started, with the address and the way to get a daemon."""
    address = f"unix://{tmp_path / 'none.sock'}"
    done = chaos("run", ROOT / "experiments/partition.py", "--backend", "docker", cwd=tmp_path, DOCKER_HOST=address)
    assert done.returncode == 4
    assert f"no docker daemon runs at {address} (No such file or directory); start one" in done.stdout + done.stderr


def test_a_socket_that_nobody_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a daemon that crashed leaves is no daemon."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'dead.sock'}")
    with pytest.raises(EnvironmentUnavailable, match=r"no docker daemon runs at .* \(Connection refused\)"):
        demand_daemon()


def test_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that this user may not use: the sentence names the group to join."""
    as_root = os.geteuid() == 0
    if not as_root:  # the daemon is ours, so a socket that is not is needed
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "other.sock"))
        sock.listen()
        (tmp_path / "other.sock").chmod(0)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'other.sock'}")
    groups = os.getgroups()
    try:
        if as_root:
            os.setgroups([])
            os.seteuid(NOBODY)
        with pytest.raises(EnvironmentUnavailable, match=r"this user may not use .* group docker"):
            demand_daemon()
    finally:
        if as_root:
            os.seteuid(0)
            os.setgroups(groups)
        else:
            sock.close()


def test_too_old(answering: Callable[[bytes], None]) -> None:
    """Both versions and the one needed are in the sentence."""
    answering(json.dumps({"Version": "18.09.1", "ApiVersion": "1.39", "Os": "linux"}).encode())
    with pytest.raises(EnvironmentUnavailable, match=r"too old: engine 18.09.1 speaks API 1.39, and 1.41 is needed"):
        demand_daemon()


def test_containers_of_another_system(answering: Callable[[bytes], None]) -> None:
    """A daemon in Windows mode has no use for our images."""
    answering(json.dumps({"Version": "28.0", "ApiVersion": "1.48", "Os": "windows"}).encode())
    with pytest.raises(EnvironmentUnavailable, match="runs windows containers; switch it"):
        demand_daemon()


@pytest.mark.parametrize("text", [b"", b"hello", b"{}", b'{"ApiVersion": null}'])
def test_something_else_at_the_socket(answering: Callable[[bytes], None], text: bytes) -> None:
    """A stranger that speaks HTTP is not taken for a daemon."""
    answering(text)
    with pytest.raises(EnvironmentUnavailable, match="is not a docker daemon"):
        demand_daemon()


@pytest.mark.parametrize(
    "address", ["tcp://192.0.2.1:2375", "ssh://someone@example.invalid", "npipe:////./pipe/docker"]
)
def test_another_machine(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Ports are published on the daemon's loopback, so a daemon elsewhere is refused before anything is sent."""
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(EnvironmentUnavailable, match="not known to be on this machine"):
        demand_daemon()


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:abc", "tcp://127.0.0.1:99999", "tcp://[::1", "http://[127.0.0.1]:x", "tcp://::1:x"]
)
def test_a_malformed_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What cannot be read as an address is told in one sentence, with the forms that can."""
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(EnvironmentUnavailable) as caught:
        connect()
    assert address in str(caught.value)
    assert "set DOCKER_HOST to " in caught.value.remedy


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:abc", "tcp://[::1", "tcp://a b:1"])
def test_a_malformed_address_keeps_no_command_from_its_work(tmp_path: Path, address: str) -> None:
    """A run in containers is not started, and what needs no daemon goes on: doctor and heal do not break."""
    run = chaos("run", ROOT / "experiments/partition.py", "--backend", "docker", cwd=tmp_path, DOCKER_HOST=address)
    assert run.returncode == 4, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    doctor = chaos("doctor", cwd=tmp_path, DOCKER_HOST=address)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert address in doctor.stdout
    healed = chaos("heal", cwd=tmp_path, DOCKER_HOST=address)
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert "no docker daemon answers" in healed.stderr


def test_a_client_follows_the_context_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client library asks the daemon that the docker command's context names, though it knows DOCKER_HOST only."""
    text = json.dumps({"Version": "28.0", "ApiVersion": "1.41", "Os": "linux"}).encode()
    server = socketserver.TCPServer(("127.0.0.1", 0), saying(text))
    address = f"tcp://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    try:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        monkeypatch.setenv("DOCKER_CONTEXT", "other")
        meta = tmp_path / "contexts/meta" / hashlib.sha256(b"other").hexdigest()
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": address}}}))
        client = connect()
        client.close()
    finally:
        server.shutdown()
        server.server_close()
    assert client.api.base_url == address.replace("tcp", "http")


def test_the_address_follows_the_docker_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_HOST first, then the context that the docker command would use, then the usual socket."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert daemon_address() == DEFAULT_ADDRESS
    (tmp_path / "config.json").write_text('{"currentContext": "colima"}')
    meta = (
        tmp_path / "contexts/meta/f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16"
    )  # sha256("colima")
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(
        '{"Name": "colima", "Endpoints": {"docker": {"Host": "unix:///home/me/docker.sock"}}}'
    )
    assert daemon_address() == "unix:///home/me/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere.sock")
    assert daemon_address() == "unix:///elsewhere.sock"
