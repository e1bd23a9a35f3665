"""Clients that were written for Toxiproxy drive our server unchanged: toxiproxy-cli, and toxiproxy-python."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
import toxiproxy
from api_support import Api, Upstream, connect, exchange
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cli(api: Api) -> Cli:
    """Run toxiproxy-cli against a server."""

    def _run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TOXIPROXY_URL": api.url, "NO_PROXY": "*"}
        done = subprocess.run(
            ["toxiproxy-cli", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done
        return done

    return _run


@pytest.mark.requires("toxiproxy-cli")
def test_the_command_line(api: Api, cli: Cli, upstream: Upstream) -> None:
    """list, create, inspect, toxic add, update, remove, toggle, delete: the same words from both servers."""
    assert cli("list").stdout == ""
    assert cli("create", "-l", "127.0.0.1:0", "-u", upstream.address, "redis").stdout == "Created new proxy redis\n"
    listen = api.get("/proxies/redis").json["listen"]
    assert cli("list").stdout.split("\t") == ["redis", listen, upstream.address, "enabled", "0\n"]
    add = (
        "toxic",
        "add",
        "-t",
        "latency",
        "-n",
        "slow",
        "--toxicity",
        "0.5",
        "-a",
        "latency=10",
        "-a",
        "jitter=2",
        "-u",
    )
    assert cli(*add, "redis").stdout == "Added upstream latency toxic 'slow' on proxy 'redis'\n"
    update = ("toxic", "update", "-n", "slow", "-a", "latency=20", "redis")
    assert cli(*update).stdout == "Updated toxic 'slow' on proxy 'redis'\n"
    shown = cli("inspect", "redis").stdout
    words = ["slow", "type=latency", "stream=upstream", "toxicity=1.00", "attributes=[", "jitter=2", "latency=20", "]"]
    assert shown.split() == words
    with connect(listen) as client:
        assert exchange(client, b"through") == b"through"
    assert cli("toxic", "remove", "-n", "slow", "redis").stdout == "Removed toxic 'slow' on proxy 'redis'\n"
    assert cli("toggle", "redis").stdout == "Proxy redis is now disabled\n"
    assert "\tdisabled\t" in cli("list").stdout
    assert cli("toggle", "redis").stdout == "Proxy redis is now enabled\n"
    assert cli("delete", "redis").stdout == "Deleted proxy redis\n"
    assert api.get("/proxies").json == {}


@pytest.mark.requires("toxiproxy-cli")
def test_the_command_line_is_told_no(api: Api, cli: Cli) -> None:
    """Refusals arrive as the command line tells them."""
    cli("create", "-l", "127.0.0.1:0", "-u", "u:1", "p")
    assert "HTTP 409: proxy already exists" in cli("create", "-l", "127.0.0.1:0", "-u", "u:1", "p", code=1).stderr
    add = ("toxic", "add", "-t", "latency", "-a", "latency=1.5", "p")
    assert "cannot unmarshal number 1.5" in cli(*add, code=1).stderr
    assert "HTTP 400: invalid toxic type" in cli("toxic", "add", "-t", "nothing", "p", code=1).stderr
    assert "HTTP 404: toxic not found" in cli("toxic", "remove", "-n", "x", "p", code=1).stderr
    assert "HTTP 404: proxy not found" in cli("delete", "nobody", code=1).stderr


@pytest.fixture
def library(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[toxiproxy.Toxiproxy]:
    """toxiproxy-python, pointed at a server; its address is global, so it is put back."""
    monkeypatch.setenv("NO_PROXY", "*")
    before = APIConsumer.host, APIConsumer.port
    client = toxiproxy.Toxiproxy()
    client.update_api_consumer(api.host, api.port)
    yield client
    client.update_api_consumer(*before)


def test_the_library(api: Api, library: toxiproxy.Toxiproxy, upstream: Upstream) -> None:
    """Create, toxics, down, reset, destroy."""
    assert library.running()
    assert b"2.12.0" in library.version()
    proxy = library.create(name="p", listen="127.0.0.1:0", upstream=upstream.address)
    proxy.add_toxic(name="t", type="latency", attributes={"latency": 10}, stream="upstream", toxicity=0.5)
    toxic = library.get_proxy("p").get_toxic("t")
    assert (toxic.type, toxic.stream, toxic.toxicity, toxic.attributes["latency"]) == ("latency", "upstream", 0.5, 10)
    with proxy.down():
        assert api.get("/proxies/p").json["enabled"] is False
    with connect(api.get("/proxies/p").json["listen"]) as client:
        assert exchange(client, b"through") == b"through"
    proxy.destroy_toxic("t")
    assert library.get_proxy("p").toxics() == {}
    library.reset()
    proxy.destroy()
    assert library.proxies() == {}


def test_the_library_is_told_no(library: toxiproxy.Toxiproxy) -> None:
    """Its exceptions come from our codes as from Toxiproxy's."""
    proxy = library.create(name="p", listen="127.0.0.1:0", upstream="u:1")
    with pytest.raises(ProxyExists):
        library.create(name="p", listen="127.0.0.1:0", upstream="u:1")
    with pytest.raises(InvalidToxic):
        proxy.add_toxic(type="nothing")
    with pytest.raises(NotFound):
        APIConsumer.delete("/proxies/nobody")
