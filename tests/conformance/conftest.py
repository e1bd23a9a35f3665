"""Both servers of the API: what is written once must hold for either."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_support import CHAOS, TOXIPROXY, Api, Upstream, start_chaos, start_toxiproxy

BOTH = [pytest.param(TOXIPROXY, marks=pytest.mark.requires("toxiproxy")), CHAOS]


@pytest.fixture(scope="session")
def _servers() -> Iterator[dict[str, Api]]:
    running: dict[str, Api] = {}
    yield running
    for api in running.values():
        api.stop()


def _server(servers: dict[str, Api], kind: str) -> Api:
    if kind in servers and servers[kind].process.poll() is None and servers[kind].clear():
        return servers[kind]
    if kind in servers:
        servers[kind].stop()
    servers[kind] = start_toxiproxy() if kind == TOXIPROXY else start_chaos("--strict", "--seed", "1")
    return servers[kind]


@pytest.fixture(params=BOTH)
def api(request: pytest.FixtureRequest, _servers: dict[str, Api]) -> Api:
    """A real Toxiproxy, then ours, each without proxies."""
    return _server(_servers, request.param)


@pytest.fixture
def ours(_servers: dict[str, Api]) -> Iterator[Api]:
    """Our server, without proxies; it must live on whatever the test did."""
    api = _server(_servers, CHAOS)
    yield api
    assert api.alive()


@pytest.fixture
def toxiproxy(_servers: dict[str, Api]) -> Api:
    """A real Toxiproxy, without proxies."""
    return _server(_servers, TOXIPROXY)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A server that sends back what it gets."""
    server = Upstream()
    yield server
    server.close()
