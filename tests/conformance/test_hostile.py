"""No request ends or freezes our server: those that end or freeze Toxiproxy, and other rude ones."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from http import HTTPStatus

import pytest
from api_support import (
    Api,
    Reply,
    Upstream,
    black_hole,
    connect,
    ending,
    exchange,
    read_all,
    start_chaos,
    start_toxiproxy,
    timed,
)
from tests_support import wait_until

from chaos.faults.network.api import http, router
from chaos.faults.network.api.handlers import Answer, Handlers
from chaos.faults.network.api.proxies import Proxies
from chaos.faults.network.api.router import Router
from chaos.faults.network.api.service import bound
from chaos.faults.network.sockets import listening

DEADLY = {
    "a negative bandwidth": {"type": "bandwidth", "attributes": {"rate": -1}},
    "an empty slicer": {"type": "slicer"},
    "a slicer without attributes": {"type": "slicer", "attributes": {}},
    "a slicer that varies by more than its average": {
        "type": "slicer",
        "attributes": {"average_size": 10, "size_variation": 1000, "delay": 0},
    },
    "a huge jitter": {"type": "latency", "attributes": {"latency": 0, "jitter": 2**62}},
    "the hugest jitter": {"type": "latency", "attributes": {"jitter": 2**63 - 1}},
    "the most negative latency": {"type": "latency", "attributes": {"latency": -(2**63)}},
    "a negative limit": {"type": "limit_data", "attributes": {"bytes": -1}},
    "the longest timeout": {"type": "timeout", "attributes": {"timeout": 2**63 - 1}},
}


@pytest.mark.parametrize("name", DEADLY)
def test_what_ends_toxiproxy(ours: Api, upstream: Upstream, name: str) -> None:
    """Taken or refused, the toxic ends nothing: bytes cross the proxy, and the API answers."""
    listen = ours.create(upstream=upstream.address)["listen"]
    with connect(listen) as client:
        exchange(client, b"before")
        reply = ours.post("/proxies/p/toxics", DEADLY[name])
        assert reply.status in (200, 400)
        assert exchange(client, b"x" * 5000) == b"x" * 5000
    with connect(listen) as client:
        assert exchange(client, b"y" * 5000) == b"y" * 5000


@pytest.mark.requires("toxiproxy")
@pytest.mark.parametrize(
    "name", ["a negative bandwidth", "a slicer that varies by more than its average", "a huge jitter"]
)
def test_they_do_end_toxiproxy(upstream: Upstream, name: str) -> None:
    """The witness: with a real Toxiproxy the same toxic and a little traffic end the process."""
    api = start_toxiproxy()
    try:
        listen = api.create(upstream=upstream.address)["listen"]
        assert api.post("/proxies/p/toxics", DEADLY[name]).status == 200
        with connect(listen) as client:
            client.settimeout(0.1)

            def _ended() -> bool:
                with contextlib.suppress(OSError):
                    client.sendall(b"x" * 5000)
                    client.recv(65536)
                return api.process.poll() is not None

            assert wait_until(_ended, 20)
    finally:
        api.stop()


@pytest.mark.requires("toxiproxy")
def test_a_black_hole_does_freeze_toxiproxy() -> None:
    """The witness: while a dial waits, deleting its proxy gets no answer, and neither does the index."""
    api = start_toxiproxy()
    try:
        with black_hole() as address, connect(api.create(upstream=address)["listen"]):
            for path in (b"DELETE /proxies/p", b"GET /proxies"):
                with socket.create_connection((api.host, api.port), timeout=1) as sock:
                    sock.sendall(path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                    with pytest.raises(TimeoutError):
                        sock.recv(1)
    finally:
        api.process.kill()
        api.stop()


@pytest.mark.parametrize("name", [name for name, body in DEADLY.items() if body.get("attributes")])
def test_what_ends_toxiproxy_as_a_change(ours: Api, upstream: Upstream, name: str) -> None:
    """The same values as a change of a toxic that acts."""
    kind, attributes = DEADLY[name]["type"], DEADLY[name]["attributes"]
    start = {"average_size": 10} if kind == "slicer" else {"rate": 100_000, "bytes": 100_000}
    with connect(ours.create(upstream=upstream.address)["listen"]) as client:
        exchange(client, b"before")
        ours.toxic(str(kind), name="t", attributes=start)
        assert ours.patch("/proxies/p/toxics/t", {"attributes": attributes}).status in (200, 400)
        assert ours.alive()
        ours.delete("/proxies/p/toxics/t")


def test_an_upstream_that_answers_no_syn(ours: Api) -> None:
    """Many clients that wait for a dial keep nobody else waiting."""
    with black_hole() as address:
        listen = ours.create(upstream=address)["listen"]
        clients = [connect(listen) for _ in range(200)]
        for path in ("/version", "/proxies", "/proxies/p", "/metrics", "/proxies/p/toxics"):
            assert ours.get(path).status == 200
        ours.toxic("latency")
        assert ours.post("/reset").status == 204
        assert ours.delete("/proxies/p").status == 204
        for client in clients:
            assert ending(client) in ("fin", "rst")
            client.close()


def test_an_upstream_that_reads_nothing(ours: Api) -> None:
    """A proxy whose buffers are full on one side can be switched off and deleted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = ours.create(upstream=f"127.0.0.1:{server.getsockname()[1]}")["listen"]
        with connect(listen, 1) as client, contextlib.suppress(TimeoutError):
            for _ in range(1000):
                client.sendall(b"x" * 65536)
        assert ours.patch("/proxies/p", {"enabled": False}).status == 200
        assert ours.delete("/proxies/p").status == 204


def test_requests_that_never_end(ours: Api) -> None:
    """Hundreds of half requests, headers and bodies that never come, keep nobody else waiting."""
    parts = [
        b"",
        b"G",
        b"GET /version HTTP/1.1\r\nHost: x\r\n",
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{",
        b"POST /populate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n[",
    ]
    with contextlib.ExitStack() as stack:
        for index in range(300):
            sock = stack.enter_context(socket.create_connection((ours.host, ours.port)))
            sock.sendall(parts[index % len(parts)])
        assert ours.alive()
        assert ours.create()["enabled"]


def test_clients_that_vanish(ours: Api) -> None:
    """Connections that are reset in the middle of a request are forgotten."""
    for _ in range(100):
        sock = socket.create_connection((ours.host, ours.port))
        sock.sendall(b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert ours.alive()


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[" + b"1," * 500_000,
        b'"' + b"\\u0041" * 170_000,
        b" " * 1_000_000,
        b"-" * 1_000_000,
        b'{"name":"' + b"x" * 1_000_000 + b'","upstream":"u:1","enabled":false}',
        b"1" * 1_000_000,
    ],
    ids=["arrays", "objects", "numbers", "escapes", "blanks", "dashes", "a long name", "a long number"],
)
def test_bodies_that_are_work(ours: Api, upstream: Upstream, body: bytes) -> None:
    """While a long body is read, connections through the proxies are served."""
    with (
        connect(ours.create(upstream=upstream.address)["listen"]) as client,
        socket.create_connection((ours.host, ours.port), timeout=60) as sock,
    ):
        sock.sendall(
            b"POST /proxies HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        sock.sendall(body)
        for _ in range(20):
            assert exchange(client, b"x") == b"x"
        assert read_all(sock).startswith(b"HTTP/1.1 ")


def test_names_that_are_odd(ours: Api) -> None:
    """Any text is a name, and comes back as it was."""
    names = ["..", ".", "%", "%2e", "a\nb", "\u0000", '"', "\\", "\u2028", "💥", " ", "?", "#", "[", "version"]
    for name in names:
        assert ours.post("/proxies", {"name": name, "upstream": "u:1", "enabled": False}).status == 201
    assert set(ours.get("/proxies").json) == set(names)
    assert ours.get("/metrics").status == 200


def test_hundreds_of_proxies(ours: Api) -> None:
    """They come and go in one request and many."""
    body = [{"name": f"p{index}", "upstream": "u:1"} for index in range(300)]
    assert len(ours.post("/populate", body).json["proxies"]) == 300
    assert ours.post("/reset").status == 204
    for index in range(300):
        assert ours.delete(f"/proxies/p{index}").status == 204


def longest_wait(client: socket.socket, api: Api, path: str, body: object) -> tuple[float, Reply]:
    """Send a request while bytes go to and fro through a proxy; return their longest way, and the answer."""
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(api.post(path, body)))
    asking.start()
    longest_s = 0.0
    while asking.is_alive():
        with timed() as took:
            assert exchange(client, b"x") == b"x"
        longest_s = max(longest_s, took[0])
    return longest_s, replies[0]


def test_thousands_of_toxics_in_one_request(ours: Api, upstream: Upstream) -> None:
    """As many as a body takes, on one proxy or on many: refused or made, the traffic goes on."""
    toxics = [{"type": "noop", "name": f"t{index}"} for index in range(12_000)]
    with connect(ours.create(upstream=upstream.address)["listen"]) as client:
        body: list[dict[str, object]] = [{"name": "q", "upstream": "u:1", "toxics": toxics}]
        longest_s, reply = longest_wait(client, ours, "/populate", body)
        assert reply.status == 400
        assert longest_s < 1.5
        body = [{"name": f"q{index}", "upstream": "u:1", "toxics": toxics[:64]} for index in range(180)]
        longest_s, reply = longest_wait(client, ours, "/populate", body)
        assert reply.status == 201
        assert longest_s < 1.5
        longest_s, reply = longest_wait(client, ours, "/reset", "")
        assert reply.status == 204
        assert longest_s < 1.5


@pytest.mark.parametrize(
    "chain",
    [
        ["noop"] * 64,
        ["latency"] * 64,
        ["slicer", *["latency"] * 62, "limit_data"],
        ["slicer"] * 32 + ["limit_data"] * 32,
    ],
    ids=["noops", "latencies", "latencies between a slicer and a limit", "slicers and limits"],
)
def test_the_longest_chain(ours: Api, upstream: Upstream, chain: list[str]) -> None:
    """A proxy may be full of toxics: connections are made in no time, and what crosses crosses."""
    limit = 20_000
    values = {"slicer": {"average_size": 100}, "limit_data": {"bytes": limit}}
    listen = ours.create(upstream=upstream.address)["listen"]
    for index, kind in enumerate(chain):
        ours.toxic(kind, name=f"t{index}", attributes=values.get(kind, {}))
    with timed() as took:
        for _ in range(20):
            with connect(listen) as client:
                assert exchange(client, b"x" * 1000) == b"x" * 1000
    assert took[0] < 5
    with connect(listen) as client:
        client.sendall(b"y" * 3 * limit)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"y" * (limit if "limit_data" in chain else 3 * limit)


def test_thousands_of_proxies_in_one_request(upstream: Upstream) -> None:
    """Out of descriptors, one says so; who is connected is served, and new clients of API and proxies come in."""
    api = start_chaos(descriptors=1024)
    try:
        listen = api.create(upstream=upstream.address)["listen"]
        with connect(listen) as client:
            body = [{"name": f"q{index}", "upstream": "u:1"} for index in range(4000)]
            longest_s, reply = longest_wait(client, api, "/populate", body)
            assert reply.status == 500
            assert reply.error.startswith("listen tcp 127.0.0.1:0: socket: too many open files")
            assert longest_s < 1.5
        assert api.alive()
        with connect(listen) as client:
            assert exchange(client, b"x") == b"x"
        assert len(api.get("/proxies").json) == 1 + len(reply.json["proxies"])
    finally:
        assert api.stop() == 0


class _Served:
    """The API inside the test, with times that do not make one wait."""

    def __init__(self, routes: Router | None = None) -> None:
        self._http = http.HttpServer(routes or Router(Handlers(Proxies(), strict=False)))

    async def __aenter__(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        listener = listening("127.0.0.1", 0)
        await self._http.start(listener)
        self._pair = await asyncio.open_connection(*bound(listener))
        return self._pair

    async def __aexit__(self, *_: object) -> None:
        self._pair[1].close()
        await self._http.close()

    @property
    def clients(self) -> int:
        """How many connections are served."""
        return len(self._http._clients)


REQUEST = b"GET /version HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("asked", "drained"),
    [(b"\r\n", True), (b"Connection: close\r\n\r\n", True), (b"Connection: close\r\n\r\n", False)],
    ids=["and asks", "once", "for what the transport keeps to itself"],
)
async def test_a_client_that_reads_no_answers(monkeypatch: pytest.MonkeyPatch, asked: bytes, drained: bool) -> None:
    """Whoever asks and never reads keeps nobody else waiting, and is cut off when its time is over."""
    size = 16 * 1024 * 1024
    monkeypatch.setattr(http, "WRITE_TIMEOUT_S", 0.3)

    async def _large(_: bytes) -> Answer:
        return Answer(HTTPStatus.OK, b"x" * size)

    async def _all_is_gone(_: asyncio.StreamWriter) -> None:
        pass

    handlers = Handlers(Proxies(), strict=False)
    monkeypatch.setattr(handlers, "version", _large)
    if not drained:
        monkeypatch.setattr(asyncio.StreamWriter, "drain", _all_is_gone)
    served = _Served(Router(handlers))
    async with served as (reader, writer), asyncio.timeout(10):
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, writer.get_extra_info("peername"))
            await asyncio.get_running_loop().sock_sendall(deaf, (REQUEST + asked) * 10)
            while served.clients < 2:
                await asyncio.sleep(0)
            writer.write(b"GET /proxies HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            while served.clients > 1:
                await asyncio.sleep(0)
            deaf.settimeout(10)
            assert len(await asyncio.to_thread(read_all, deaf)) < size


@pytest.mark.parametrize(
    "part", [b"GET /version HTTP/1.1\r\nHost", b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"]
)
async def test_slow_requests_end(monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    """A request that does not arrive in time ends its connection."""
    monkeypatch.setattr(http, "READ_TIMEOUT_S", 0.1)
    async with _Served() as (reader, writer), asyncio.timeout(10):
        writer.write(part)
        assert await reader.read() == b""


async def test_idle_connections_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a next request is closed."""
    monkeypatch.setattr(http, "IDLE_TIMEOUT_S", 0.1)
    async with _Served() as (reader, writer), asyncio.timeout(10):
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).endswith(b'{"version": "2.12.0"}\n')


async def test_slow_handlers_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a request is answered 503 with a page, and goes on."""
    monkeypatch.setattr(router, "HANDLER_TIMEOUT_S", 0.1)
    released, finished = asyncio.Event(), asyncio.Event()

    async def _slow(_: bytes) -> Answer:
        await released.wait()
        finished.set()
        raise AssertionError

    handlers = Handlers(Proxies(), strict=False)
    monkeypatch.setattr(handlers, "version", _slow)
    async with _Served(Router(handlers)) as (reader, writer), asyncio.timeout(10):
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"text/html" in head
        page = b"<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>"
        assert await reader.readexactly(len(page)) == page
        released.set()
        await finished.wait()


async def test_a_defect_is_an_answer(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw in a handler is 500, and the connection goes on."""

    async def _broken(_: bytes) -> Answer:
        raise RuntimeError("nobody foresaw this")

    handlers = Handlers(Proxies(), strict=False)
    monkeypatch.setattr(handlers, "version", _broken)
    async with _Served(Router(handlers)) as (reader, writer), asyncio.timeout(10):
        for _ in range(2):
            writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
            assert b"RuntimeError: nobody foresaw this" in await reader.readuntil(b"\n")
    assert "could not answer" in caplog.text
