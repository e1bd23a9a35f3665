"""Where we differ from Toxiproxy on purpose; docs/reference/proxy-api.md names each of these tests."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_support import CHAOS, Api, Upstream, black_hole, connect, ending, exchange, read_all, start_chaos
from tests_support import wait_until

ROOT = Path(__file__).resolve().parents[2]
DAY_MS = 24 * 3600 * 1000


def test_every_deviation_is_documented() -> None:
    """The page names every test of this module, and none that is gone."""
    page = (ROOT / "docs/reference/proxy-api.md").read_text(encoding="utf-8")
    tests = {name for name in globals() if name.startswith("test_")} - {"test_every_deviation_is_documented"}
    assert set(re.findall(r"`(test_\w+)`", page)) == tests


def test_omitted_address_is_loopback(ours: Api) -> None:
    """A proxy that names no address listens on loopback; Toxiproxy takes all interfaces."""
    for body in ({"name": "a", "upstream": "x:1"}, {"name": "b", "upstream": "x:1", "listen": ""}):
        assert ours.post("/proxies", body).json["listen"].startswith("127.0.0.1:")
    assert ours.patch("/proxies/a", {"listen": ""}).json["listen"].startswith("127.0.0.1:")


def test_omitted_address_when_the_api_is_open() -> None:
    """With --host 0.0.0.0 it is as with Toxiproxy: whoever opens the API has opened the machine."""
    api = start_chaos(host="0.0.0.0")
    try:
        api.host = "127.0.0.1"
        assert api.post("/proxies", {"name": "a", "upstream": "x:1"}).json["listen"].startswith("[::]:")
    finally:
        assert api.stop() == 0


def test_no_logger() -> None:
    """Without --strict a proxy has no Logger."""
    api = start_chaos()
    try:
        assert list(api.create()) == ["name", "listen", "upstream", "enabled", "toxics"]
    finally:
        assert api.stop() == 0


@pytest.mark.parametrize(
    ("kind", "attributes", "error"),
    [
        ("latency", {"latency": -1}, f"latency must be between 0 and {DAY_MS}, not -1"),
        ("latency", {"jitter": 2**62}, f"jitter must be between 0 and {DAY_MS}, not {2**62}"),
        ("bandwidth", {"rate": -1}, r"rate must be between 0 and \d+, not -1"),
        ("slicer", {}, r"average_size must be between 1 and \d+, not 0"),
        ("slicer", {"average_size": 5, "size_variation": -1}, r"size_variation must be between 0 and \d+, not -1"),
        ("limit_data", {"bytes": -1}, r"bytes must be between 0 and \d+, not -1"),
        ("timeout", {"timeout": DAY_MS + 1}, f"timeout must be between 0 and {DAY_MS}, not {DAY_MS + 1}"),
        ("slow_close", {"delay": -5}, f"delay must be between 0 and {DAY_MS}, not -5"),
        ("reset_peer", {"timeout": -5}, f"timeout must be between 0 and {DAY_MS}, not -5"),
    ],
)
def test_attributes_have_ranges(ours: Api, kind: str, attributes: dict[str, int], error: str) -> None:
    """An attribute out of its range is 400, and adds nothing; Toxiproxy takes it, and of some it dies."""
    ours.create()
    reply = ours.post("/proxies/p/toxics", {"type": kind, "attributes": attributes})
    assert reply.status == 400
    assert re.fullmatch(f"bad request body: {error}", reply.error)
    assert ours.get("/proxies/p/toxics").json == []


@pytest.mark.parametrize("toxicity", [7, -3, 1.01])
def test_toxicity_is_a_share(ours: Api, toxicity: float) -> None:
    """A toxicity outside of 0 to 1 is 400, for a new toxic and for a change."""
    ours.create()
    error = f"bad request body: toxicity must be between 0 and 1, not {toxicity:g}"
    assert ours.post("/proxies/p/toxics", {"type": "noop", "toxicity": toxicity}).error == error
    ours.toxic("noop", name="t")
    assert ours.patch("/proxies/p/toxics/t", {"toxicity": toxicity}).error == error
    assert ours.get("/proxies/p/toxics/t").json["toxicity"] == 1


@pytest.mark.parametrize(
    "body", [{"attributes": {"latency": 7, "jitter": "x"}}, {"attributes": {"latency": 7}, "toxicity": 5}]
)
def test_a_refused_change_changes_nothing(ours: Api, body: dict[str, Any]) -> None:
    """A change that is answered with 400 leaves the toxic as it was; Toxiproxy applies half of it."""
    ours.create()
    before = ours.toxic("latency", name="t", attributes={"latency": 5})
    assert ours.patch("/proxies/p/toxics/t", body).status == 400
    assert ours.get("/proxies/p/toxics/t").json == before


@pytest.mark.parametrize("idle", [True, False])
def test_live_connections_are_reset(ours: Api, upstream: Upstream, idle: bool) -> None:
    """reset_peer resets connections that are open already, idle ones too; Toxiproxy closes them, idle ones never."""
    listen = ours.create(upstream=upstream.address)["listen"]
    with connect(listen) as client:
        exchange(client, b"x")
        ours.toxic("reset_peer", stream="upstream", attributes={"timeout": 0 if idle else 100})
        if not idle:
            client.sendall(b"y")
        assert ending(client) == "rst"


def test_a_pending_reset_blocks_nothing(ours: Api, upstream: Upstream) -> None:
    """Taking out a reset_peer that waits its time does not wait for it; Toxiproxy's API does."""
    listen = ours.create(upstream=upstream.address)["listen"]
    ours.toxic("reset_peer", stream="upstream", attributes={"timeout": DAY_MS})
    with connect(listen) as client:
        client.sendall(b"x")
        assert wait_until(lambda: received(ours) == 1)
        assert ours.delete("/proxies/p/toxics/reset_peer_upstream").status == 204
        assert ending(client) == "rst"


def test_timeout_closes_only_what_it_touched(ours: Api, upstream: Upstream) -> None:
    """Taking a timeout out leaves connections alone that its toxicity had spared; Toxiproxy closes them all."""
    listen = ours.create(upstream=upstream.address)["listen"]
    with connect(listen) as client:
        exchange(client, b"x")
        ours.toxic("timeout", toxicity=0)
        ours.delete("/proxies/p/toxics/timeout_downstream")
        assert exchange(client, b"y") == b"y"


def test_reset_is_atomic(ours: Api) -> None:
    """One proxy that cannot listen: 500, and everything is as it was; Toxiproxy stops half way."""
    for name in ("a", "z"):
        ours.create(name)
        ours.toxic("noop", name)
        ours.create(f"{name}-off", enabled=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ours.create("m", listen=f"127.0.0.1:{taken.getsockname()[1]}", enabled=False)
        before = ours.get("/proxies").json
        reply = ours.post("/reset")
        assert (reply.status, "address already in use" in reply.error) == (500, True)
        assert ours.get("/proxies").json == before
    assert ours.post("/reset").status == 204
    assert all(proxy["enabled"] and not proxy["toxics"] for proxy in ours.get("/proxies").json.values())


def test_half_close(ours: Api) -> None:
    """A client that has sent its last byte still gets the reply; Toxiproxy closes both directions."""
    server = Upstream(echo=False, farewell=b"late")
    try:
        with connect(ours.create(upstream=server.address)["listen"]) as client:
            client.sendall(b"request")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"late"
    finally:
        server.close()


@pytest.mark.slow
def test_dialing_takes_its_time_and_no_more(ours: Api) -> None:
    """An upstream that answers no SYN ends the client's connection after five seconds; Toxiproxy waits on."""
    with black_hole() as address, connect(ours.create(upstream=address)["listen"]) as client:
        assert ending(client) == "fin"


def test_proxies_do_not_wait_for_each_other(ours: Api, upstream: Upstream) -> None:
    """A proxy that dials into the void can be asked, changed and deleted, and so can the others.

    Toxiproxy holds a lock over all proxies while it waits for that dial: nobody gets an answer.
    """
    with black_hole() as address:
        stuck = ours.create("stuck", upstream=address)["listen"]
        clients = [connect(stuck) for _ in range(5)]
        assert ours.get("/proxies/stuck").status == 200
        assert ours.patch("/proxies/stuck", {"enabled": False}).status == 200
        assert ours.patch("/proxies/stuck", {"enabled": True}).status == 200
        clients += [connect(stuck) for _ in range(5)]
        with connect(ours.create("p", upstream=upstream.address)["listen"]) as client:
            assert ours.delete("/proxies/stuck").status == 204
            assert list(ours.get("/proxies").json) == ["p"]
            assert exchange(client, b"x") == b"x"
        for client in clients:
            assert ending(client) in ("fin", "rst")
            client.close()


def received(api: Api, direction: str = "upstream") -> int:
    """Return the bytes that the only proxy has read in one direction."""
    pattern = rf'toxiproxy_proxy_received_bytes_total{{direction="{direction}",.*}} (\d+)'
    return int(re.findall(pattern, api.get("/metrics").text)[0])


Pattern = Callable[[], list[bool]]


@pytest.fixture
def patterns(upstream: Upstream) -> Iterator[Callable[[Api], Pattern]]:
    """Open connections through the proxy p of a server; each call tells which of them answer now."""
    opened: list[socket.socket] = []

    def _open(api: Api) -> Pattern:
        listen = api.create(upstream=upstream.address)["listen"]
        clients = []
        for _ in range(40):
            client = connect(listen)
            clients.append(client)
            assert exchange(client, b"x") == b"x"
        opened.extend(clients)

        def _answering() -> list[bool]:
            for client in clients:
                client.sendall(b"y")
            answered: set[socket.socket] = set()
            while ready := select.select([one for one in clients if one not in answered], [], [], 0.5)[0]:
                for client in ready:
                    assert client.recv(100)
                    answered.add(client)
            return [client in answered for client in clients]

        return _answering

    yield _open
    for client in opened:
        client.close()


def test_toxicity_is_never_rolled_again(ours: Api, patterns: Callable[[Api], Pattern]) -> None:
    """A neighbour that comes or goes changes no connection's fate; with Toxiproxy all dice are cast again."""
    answering = patterns(ours)
    ours.toxic("latency", name="t", toxicity=0.5, attributes={"latency": DAY_MS})
    first = answering()
    assert 4 < sum(first) < 36
    ours.toxic("noop", name="neighbour")
    assert answering() == first
    ours.delete("/proxies/p/toxics/neighbour")
    ours.patch("/proxies/p/toxics/t", {"attributes": {"latency": DAY_MS - 1}})
    assert answering() == first


def test_toxicity_follows_the_seed(patterns: Callable[[Api], Pattern]) -> None:
    """The same seed hits the same connections, another one others; Toxiproxy's -seed does nothing."""
    found = {}
    for label, seed in (("one", "7"), ("again", "7"), ("other", "8")):
        api = start_chaos("--seed", seed)
        try:
            answering = patterns(api)
            api.toxic("latency", name="t", toxicity=0.5, attributes={"latency": DAY_MS})
            found[label] = answering()
        finally:
            assert api.stop() == 0
    assert found["one"] == found["again"] != found["other"]


def test_more_toxicity_adds_connections(ours: Api, patterns: Callable[[Api], Pattern]) -> None:
    """A higher toxicity keeps those it hit and hits more of them; a lower one lets some go, and no others."""
    answering = patterns(ours)
    ours.toxic("latency", name="t", toxicity=0.3, attributes={"latency": DAY_MS})
    few = answering()
    ours.patch("/proxies/p/toxics/t", {"toxicity": 0.8})
    many = answering()
    assert sum(many) < sum(few)
    assert all(before or not after for before, after in zip(few, many, strict=True))
    ours.patch("/proxies/p/toxics/t", {"toxicity": 0.3})
    assert wait_until(lambda: answering() == few)


def test_metrics_are_live(ours: Api, upstream: Upstream) -> None:
    """Open connections count, what a toxic holds back is received and not sent, and no flag is needed."""
    listen = ours.create(upstream=upstream.address)["listen"]

    def _count(what: str, direction: str) -> int:
        pattern = rf'toxiproxy_proxy_{what}_bytes_total{{direction="{direction}",.*}} (\d+)'
        return int(re.findall(pattern, ours.get("/metrics").text)[0])

    with connect(listen) as client:
        exchange(client, b"12345")
        assert [_count("received", "upstream"), _count("sent", "downstream")] == [5, 5]
        ours.toxic("bandwidth", attributes={"rate": 0})
        client.sendall(b"678")
        assert wait_until(lambda: _count("received", "downstream") == 8)
        assert [_count("sent", "upstream"), _count("sent", "downstream")] == [8, 5]


def test_runtime_metrics_are_of_this_process() -> None:
    """With the flag there are process_* and a build info, but no go_* of a runtime that is not there."""
    api = start_chaos("-runtime-metrics")
    try:
        api.create()
        text = api.get("/metrics").text
        values = {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"
        }
        assert values["process_cpu_seconds_total"] > 0
        assert 5 < values["process_open_fds"] < values["process_max_fds"]
        assert 2**20 < values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"]
        assert abs(values["process_start_time_seconds"] - time.time()) < 60
        assert len([name for name in values if name.startswith("chaos_build_info{")]) == 1
        assert any(name.startswith("toxiproxy_proxy_sent_bytes_total{") for name in values)
        assert "go_" not in text
    finally:
        assert api.stop() == 0


def test_metrics_end_with_their_proxy(ours: Api) -> None:
    """A deleted proxy leaves no series behind; with Toxiproxy they stay for ever."""
    ours.create()
    assert 'proxy="p"' in ours.get("/metrics").text
    ours.delete("/proxies/p")
    assert ours.get("/metrics").text == ""


def test_populate_takes_toxics(ours: Api, upstream: Upstream) -> None:
    """What GET /proxies shows can be sent to /populate, toxics included; Toxiproxy drops them."""
    ours.create(upstream=upstream.address)
    ours.toxic("latency", name="t", toxicity=0.5, stream="upstream", attributes={"latency": 5})
    ours.toxic("timeout", attributes={"timeout": 0})
    before = ours.get("/proxies").json
    ours.delete("/proxies/p")
    reply = ours.post("/populate", list(before.values()))
    assert (reply.status, reply.json["proxies"]) == (201, list(before.values()))
    with connect(before["p"]["listen"]) as client:
        client.sendall(b"x")
        assert wait_until(lambda: received(ours, "downstream") == 1)
        ours.post("/reset")
        assert ending(client) == "fin"  # by the timeout, which acted from the beginning


@pytest.mark.parametrize(
    ("toxics", "error"),
    [
        ([{"type": "nothing"}], "invalid toxic type at toxic 1 at proxy 2"),
        ([{"type": "noop"}, {"type": "noop"}], "toxic already exists at toxic 2 at proxy 2"),
        (5, "bad request body: toxics must be an array at proxy 2"),
        ([{"type": "slicer"}], r"bad request body: average_size must be .* at toxic 1 at proxy 2"),
    ],
)
def test_populate_checks_toxics_first(ours: Api, toxics: object, error: str) -> None:
    """A toxic that cannot be is told with its place, and no proxy is made."""
    body = [{"name": "a", "upstream": "x:1"}, {"name": "b", "upstream": "x:1", "toxics": toxics}]
    reply = ours.post("/populate", body)
    assert re.fullmatch(error, reply.error)
    assert ours.get("/proxies").json == {}


def test_a_proxy_that_is_off_keeps_its_port(ours: Api) -> None:
    """Nobody else is given the port of a proxy that is off, unless he asks for it with SO_REUSEADDR."""
    host, _, port = ours.create()["listen"].rpartition(":")
    ours.patch("/proxies/p", {"enabled": False})
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((host, int(port)))


def test_a_client_that_has_said_all_is_answered(ours: Api) -> None:
    """A client may close its side behind the request; Toxiproxy takes that for its leaving, and answers 503."""
    answer = ours.raw(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", shut=True)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_bodies_have_an_end(ours: Api) -> None:
    """A body of more than 1 MiB is 413, and the end of the connection; Toxiproxy reads on."""
    size = 1024 * 1024 + 1
    head = b"POST /populate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    assert ours.raw(head + b" " * size).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.1.2.3"),
        ("0.0.0.0", "[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_a_proxy_does_not_dial_itself(ours: Api, listen: str, upstream: str) -> None:
    """An upstream that is the proxy's own address is unreachable; Toxiproxy dials itself until nothing is left."""
    port = ours.create(listen=f"{listen}:0")["listen"].rpartition(":")[2]
    assert ours.patch("/proxies/p", {"listen": f"{listen}:{port}", "upstream": f"{upstream}:{port}"}).status == 200
    host = "[::1]" if "1]" in listen else "127.0.0.1"
    with connect(f"{host}:{port}") as client:
        assert ending(client) == "fin"
    received = r"toxiproxy_proxy_received_bytes_total{.*} 0"
    assert len(re.findall(received, ours.get("/metrics").text)) == 2


def test_a_proxy_has_so_many_toxics(ours: Api) -> None:
    """The 65th toxic is 400, alone or in a body of many; Toxiproxy takes any number."""
    ours.create()
    for index in range(64):
        ours.toxic("noop", name=f"t{index}")
    error = "too many toxics: a proxy can have 64"
    reply = ours.post("/proxies/p/toxics", {"type": "noop", "name": "one more"})
    assert (reply.status, reply.error) == (400, error)
    body = [{"name": "q", "upstream": "u:1", "toxics": [{"type": "noop", "name": f"{index}"} for index in range(65)]}]
    reply = ours.post("/populate", body)
    assert (reply.status, reply.error) == (400, f"{error} at toxic 65 at proxy 1")
    ours.delete("/proxies/p/toxics/t0")
    assert ours.post("/proxies/p/toxics", {"type": "noop", "name": "one more"}).status == 200


def test_there_are_so_many_proxies() -> None:
    """The 4097th proxy is 400, alone or in a body of many; Toxiproxy takes proxies until the machine has no more."""
    api = start_chaos()
    try:
        body = [{"name": f"p{index}", "upstream": "u:1", "enabled": False} for index in range(4097)]
        reply = api.post("/populate", body)
        assert (reply.status, reply.error) == (400, "too many proxies: there can be 4096")
        assert api.post("/populate", body[:-1]).status == 201
        reply = api.post("/proxies", {"name": "one more", "upstream": "u:1"})
        assert (reply.status, reply.error) == (400, "too many proxies: there can be 4096")
        reply = api.post("/populate", [{"name": "p0", "upstream": "other:1"}, {"name": "one more", "upstream": "u:1"}])
        assert (reply.status, len(reply.json["proxies"])) == (400, 1)
    finally:
        assert api.stop() == 0


def test_the_server_names_itself(ours: Api) -> None:
    """A header tells our proxy from Toxiproxy; the version is that of the API."""
    assert ours.kind == CHAOS
    assert ours.get("/version").headers["server"].startswith("chaos-harness/")


def test_a_broken_config_ends_the_program(tmp_path: Path) -> None:
    """A file of proxies that cannot be read is told, and nothing is served; Toxiproxy logs it and serves none."""
    path = tmp_path / "proxies.json"
    path.write_text('[{"name": "a"}]')
    command = [sys.executable, "-m", "chaos", "proxy", "--port", "0", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "missing required field: upstream at proxy 1" in done.stderr
    assert "[malformed-proxies]" in done.stderr
