"""What the toxics of the API do to bytes; the same on both servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from api_support import Api, Upstream, connect, ending, exchange, read_exactly, timed
from tests_support import wait_until

BULK = bytes(range(256)) * 400


@pytest.fixture
def listen(api: Api, upstream: Upstream) -> str:
    """The address of a proxy before an echo server."""
    return str(api.create(upstream=upstream.address)["listen"])


@pytest.fixture
def client(listen: str) -> Iterator[socket.socket]:
    """A connection through it that is open before the test does anything."""
    with connect(listen) as sock:
        assert exchange(sock, b"hello") == b"hello"
        yield sock


def silent(sock: socket.socket, for_s: float = 0.3) -> bool:
    """Tell whether nothing arrives for a while."""
    sock.settimeout(for_s)
    try:
        return sock.recv(1) is None
    except TimeoutError:
        return True
    finally:
        sock.settimeout(10)


def test_bulk_passes(client: socket.socket) -> None:
    """Without toxics all bytes arrive, in order."""
    assert exchange(client, BULK) == BULK


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_latency(api: Api, client: socket.socket, stream: str) -> None:
    """Open connections are late at once, and no longer once the toxic is gone; what was held arrives."""
    api.toxic("latency", stream=stream, attributes={"latency": 150})
    with timed() as seconds:
        assert exchange(client, b"x") == b"x"
    assert seconds[0] >= 0.149
    api.patch(f"/proxies/p/toxics/latency_{stream}", {"attributes": {"latency": 60_000}})
    client.sendall(b"y")
    assert silent(client)
    assert api.delete(f"/proxies/p/toxics/latency_{stream}").status == 204
    assert read_exactly(client, 1) == b"y"


def test_latencies_add_up(api: Api, client: socket.socket) -> None:
    """Two on one stream and one on the other are all waited for."""
    for name, stream in (("a", "upstream"), ("b", "upstream"), ("c", "downstream")):
        api.toxic("latency", name=name, stream=stream, attributes={"latency": 60})
    with timed() as seconds:
        exchange(client, b"x")
    assert seconds[0] >= 0.179


def test_bandwidth(api: Api, client: socket.socket) -> None:
    """100 KB/s means 100 bytes a millisecond."""
    api.toxic("bandwidth", attributes={"rate": 100})
    with timed() as seconds:
        assert exchange(client, BULK[:30_000]) == BULK[:30_000]
    assert seconds[0] >= 0.2


def test_no_bandwidth(api: Api, upstream: Upstream, client: socket.socket) -> None:
    """A rate of 0 lets nothing pass; when it goes, everything arrives."""
    api.toxic("bandwidth", stream="upstream", attributes={"rate": 0})
    client.sendall(BULK)
    assert silent(client)
    assert upstream.received == len(b"hello")
    api.delete("/proxies/p/toxics/bandwidth_upstream")
    assert read_exactly(client, len(BULK)) == BULK


def test_slow_close(api: Api, upstream: Upstream, client: socket.socket) -> None:
    """Bytes pass; the end that the upstream sends comes later."""
    api.toxic("slow_close", attributes={"delay": 300})
    assert exchange(client, b"x") == b"x"
    with timed() as seconds:
        upstream.connections[-1].shutdown(socket.SHUT_RDWR)
        assert ending(client) == "fin"
    assert seconds[0] >= 0.299


def test_timeout_for_ever(api: Api, upstream: Upstream, client: socket.socket) -> None:
    """0 discards replies and never closes; taking it out closes, because the stream has a hole."""
    api.toxic("timeout", attributes={"timeout": 0})
    client.sendall(b"question")
    assert wait_until(lambda: upstream.received == len(b"helloquestion"))
    assert silent(client)
    api.delete("/proxies/p/toxics/timeout_downstream")
    assert ending(client) in ("fin", "rst")


def test_timeout_upstream(api: Api, upstream: Upstream, client: socket.socket) -> None:
    """Requests that are discarded never reach the upstream."""
    api.toxic("timeout", stream="upstream", attributes={"timeout": 0})
    client.sendall(b"question")
    assert silent(client)
    assert upstream.received == len(b"hello")


def test_timeout_lets_the_end_pass(api: Api, upstream: Upstream, client: socket.socket) -> None:
    """The end of the upstream's stream is not discarded."""
    api.toxic("timeout", attributes={"timeout": 0})
    upstream.connections[-1].shutdown(socket.SHUT_RDWR)
    assert ending(client) == "fin"


def test_timeout_closes(api: Api, client: socket.socket) -> None:
    """After that time without bytes the connection ends."""
    with timed() as seconds:
        api.toxic("timeout", attributes={"timeout": 200})
        assert ending(client) == "fin"
    assert seconds[0] >= 0.199


def test_timeout_starts_again_with_each_chunk(api: Api, client: socket.socket) -> None:
    """Discarded traffic keeps it open."""
    api.toxic("timeout", attributes={"timeout": 400})
    with timed() as seconds:
        for _ in range(4):
            client.sendall(b"x")
            assert silent(client, 0.15)
        assert ending(client) == "fin"
    assert seconds[0] >= 0.8


def test_reset_peer(api: Api, listen: str) -> None:
    """A new connection is reset by its first byte, which never arrives."""
    api.toxic("reset_peer", stream="upstream", attributes={"timeout": 0})
    with connect(listen) as client:
        client.sendall(b"x")
        assert ending(client) == "rst"


def test_reset_peer_later(api: Api, listen: str) -> None:
    """With a time it is reset that much later."""
    api.toxic("reset_peer", stream="upstream", attributes={"timeout": 200})
    with connect(listen) as client, timed() as seconds:
        client.sendall(b"x")
        assert ending(client) == "rst"
    assert seconds[0] >= 0.199


def test_reset_peer_of_a_reply(api: Api, upstream: Upstream, listen: str) -> None:
    """Downstream, the request arrives and the reply resets."""
    api.toxic("reset_peer", attributes={"timeout": 0})
    with connect(listen) as client:
        client.sendall(b"request")
        assert ending(client) == "rst"
    assert wait_until(lambda: upstream.received == len(b"request"))


def test_slicer(api: Api, client: socket.socket) -> None:
    """Sliced bytes all arrive, in order."""
    api.toxic("slicer", attributes={"average_size": 64, "size_variation": 32, "delay": 10})
    assert exchange(client, BULK[:10_000]) == BULK[:10_000]


def test_limit_data(api: Api, listen: str) -> None:
    """So many bytes pass, the rest does not, and the connection ends."""
    api.toxic("limit_data", attributes={"bytes": 100})
    with connect(listen) as client:
        client.sendall(BULK[:1000])
        assert read_exactly(client, 1000) == BULK[:100]


def test_limit_data_counts_on(api: Api, listen: str) -> None:
    """The count of a connection survives a change of the limit, and another toxic beside it."""
    api.toxic("limit_data", attributes={"bytes": 100})
    with connect(listen) as client:
        assert len(exchange(client, BULK[:60])) == 60
        api.patch("/proxies/p/toxics/limit_data_downstream", {"attributes": {"bytes": 90}})
        api.toxic("noop")
        client.sendall(BULK[:60])
        assert len(read_exactly(client, 60)) == 30


def test_limit_data_of_nothing(api: Api, listen: str) -> None:
    """A limit of 0 ends the connection at the first byte."""
    api.toxic("limit_data", attributes={"bytes": 0})
    with connect(listen) as client:
        client.sendall(b"x")
        assert ending(client) == "fin"


@pytest.mark.parametrize("kind", ["latency", "timeout", "reset_peer", "limit_data", "bandwidth"])
def test_toxicity_of_nothing(api: Api, listen: str, kind: str) -> None:
    """A toxic of toxicity 0 touches no connection."""
    api.toxic(kind, toxicity=0, attributes={"latency": 60_000})
    for _ in range(5):
        with connect(listen) as client:
            assert exchange(client, b"x") == b"x"


def test_toxicity_is_a_share(api: Api, listen: str) -> None:
    """Of many connections some are touched and some are not."""
    api.toxic("limit_data", toxicity=0.5, attributes={"bytes": 0})
    passed = 0
    for _ in range(64):
        with connect(listen) as client:
            passed += exchange(client, b"x") == b"x"
    assert 8 < passed < 56


def test_toxics_survive_switching_off(api: Api, listen: str) -> None:
    """A toxic acts again when its proxy is on again, and so does one that was added meanwhile."""
    api.toxic("latency", attributes={"latency": 100})
    api.patch("/proxies/p", {"enabled": False})
    api.toxic("latency", stream="upstream", attributes={"latency": 100})
    api.patch("/proxies/p", {"enabled": True})
    with connect(listen) as client, timed() as seconds:
        assert exchange(client, b"x") == b"x"
    assert seconds[0] >= 0.199


def test_metrics_after_the_end(api: Api, listen: str) -> None:
    """Once a connection has ended its bytes are counted, by proxy, listener, upstream and direction."""
    with connect(listen) as client:
        exchange(client, b"12345")
        client.shutdown(socket.SHUT_WR)
        assert ending(client) == "fin"
    upstream = api.get("/proxies/p").json["upstream"]
    labels = f'listener="{listen}",proxy="p",upstream="{upstream}"'
    lines = {
        f'toxiproxy_proxy_{what}_bytes_total{{direction="{direction}",{labels}}} 5'
        for what in ("received", "sent")
        for direction in ("upstream", "downstream")
    }
    assert wait_until(lambda: lines <= set(api.get("/metrics").text.splitlines()))
    reply = api.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4; charset=utf-8")
    assert "# TYPE toxiproxy_proxy_received_bytes_total counter" in reply.text
