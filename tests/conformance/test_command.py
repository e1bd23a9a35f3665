"""`chaos proxy` as a program: options, configuration, signals, exit codes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from api_support import Api, Upstream, connect, exchange, start_chaos

from chaos import __version__
from chaos.cli.proxy import proxy

COMMAND = (sys.executable, "-m", "chaos", "proxy")


def failed(*options: str) -> subprocess.CompletedProcess[str]:
    """Run it when it must end by itself."""
    return subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_well(number: int, upstream: Upstream) -> None:
    """SIGINT and SIGTERM end it with 0, whatever is open; its ports are free then."""
    api = start_chaos("--seed", "5")
    listen = api.create(upstream=upstream.address)["listen"]
    with connect(listen) as client, socket.create_connection((api.host, api.port)):
        exchange(client, b"x")
        api.process.send_signal(number)
        assert api.process.wait(30) == 0
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(listen)
    api.stop()


def test_it_says_where_and_with_which_seed() -> None:
    """The first line has the address and the seed."""
    command = [*COMMAND, "--port", "0", "--seed", "77"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    assert line.startswith("chaos proxy: API at http://127.0.0.1:")
    assert line.endswith(", 0 proxies, seed 77\n")


def test_flags_of_toxiproxy_server(tmp_path: Path) -> None:
    """Flags with one dash, and with =, are understood."""
    path = tmp_path / "proxies.json"
    path.write_text('[{"name": "p", "upstream": "u:1"}]')
    command = [*COMMAND, "-host=127.0.0.1", "-port", "0", f"-config={path}", "-seed=3", "-proxy-metrics=true"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    assert line.endswith(", 1 proxies, seed 3\n")


@pytest.mark.parametrize("flag", ["-version", "--version", "-version=true"])
def test_version(flag: str) -> None:
    """It is told as toxiproxy-server tells its own, then the program ends."""
    done = failed(flag)
    assert done.returncode == 0
    assert done.stdout == f"toxiproxy-server version 2.12.0 (chaos-harness {__version__})\n"


@pytest.mark.requires("toxiproxy")
def test_every_flag_of_toxiproxy_server_is_taken() -> None:
    """Whatever its own help names, ours has with one dash and with two."""
    told = subprocess.run(["toxiproxy-server", "-help"], capture_output=True, text=True, check=False).stderr
    flags = set(re.findall(r"^  -(\S+)", told, re.MULTILINE))
    assert {"version", "runtime-metrics", "host"} <= flags
    ours = {option for parameter in proxy.params for option in parameter.opts}
    assert {f"{dashes}{flag}" for flag in flags for dashes in ("-", "--")} <= ours


def test_switches_with_a_value() -> None:
    """A switch that is false is not there; one that is neither true nor false is wrong usage."""
    done = failed("-version=false", "-port=x")
    assert (done.returncode, done.stdout) == (2, "")
    assert failed("-version=maybe").returncode == 2


def test_configuration(tmp_path: Path, upstream: Upstream) -> None:
    """A file of proxies, as for populate, toxics included, is there from the first request on."""
    path = tmp_path / "proxies.json"
    toxic = {"type": "noop", "name": "t"}
    path.write_text(
        json.dumps(
            [
                {"name": "a", "upstream": upstream.address, "toxics": [toxic]},
                {"name": "b", "upstream": "u", "enabled": False},
            ]
        )
    )
    api = start_chaos("--config", str(path))
    try:
        shown = api.get("/proxies").json
        assert [(proxy["name"], proxy["enabled"], len(proxy["toxics"])) for proxy in shown.values()] == [
            ("a", True, 1),
            ("b", False, 0),
        ]
        with connect(shown["a"]["listen"]) as client:
            assert exchange(client, b"x") == b"x"
    finally:
        assert api.stop() == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is not a list of proxies: bad request body: EOF"),
        ("{}", "is not a list of proxies: bad request body: json: cannot unmarshal object"),
        ('[{"name": "a"}]', "is not a list of proxies: missing required field: upstream at proxy 1"),
        ('[{"name": "a", "upstream": "u", "toxics": [{}]}]', "invalid toxic type at toxic 1 at proxy 1"),
    ],
)
def test_configuration_that_means_nothing(tmp_path: Path, text: str | None, told: str) -> None:
    """It is wrong usage, told with file, remedy and slug."""
    path = tmp_path / "proxies.json"
    if text is not None:
        path.write_text(text)
    done = failed("--port", "0", "--config", str(path))
    assert done.returncode == 2
    assert f"{path}: " in done.stderr
    assert told in done.stderr
    assert "[malformed-proxies]" in done.stderr
    assert done.stdout == ""


def test_addresses_that_cannot_be_had(tmp_path: Path, ours: Api) -> None:
    """A port that is taken, of the API or of a proxy, and a host that is not ours: not started, with a remedy."""
    done = failed("--host", "127.0.0.1", "--port", str(ours.port))
    assert done.returncode == 4
    assert f"cannot listen on 127.0.0.1:{ours.port}: Address already in use; give --port another number" in done.stderr
    done = failed("--host", "nobody.invalid")
    assert done.returncode == 4
    assert "--host nobody.invalid: lookup nobody.invalid" in done.stderr
    path = tmp_path / "proxies.json"
    path.write_text(json.dumps([{"name": "p", "listen": f"127.0.0.1:{ours.port}", "upstream": "u:1"}]))
    done = failed("--port", "0", "--config", str(path))
    assert done.returncode == 4
    assert f"proxy p: listen tcp 127.0.0.1:{ours.port}: bind: address already in use; change" in done.stderr


def test_ipv6() -> None:
    """The API may be on IPv6, with and without brackets."""
    for host in ("::1", "[::1]"):
        api = start_chaos(host=host)
        try:
            assert api.host == "::1"
            assert api.create()["listen"].startswith("127.0.0.1:")
        finally:
            assert api.stop() == 0
