"""Every hole of toxiproxy-python, closed: the client against a real Toxiproxy."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import signal
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest
import toxiproxy as library

from chaos.backends.connections import connected_to
from chaos.backends.ports import Reservation
from chaos.backends.redis_server import RedisServer
from chaos.backends.toxiproxy import Toxic, Toxiproxy, ToxiproxyError, ToxiproxyProxy, Traffic
from chaos.backends.toxiproxy_library import address_of
from chaos.backends.toxiproxy_server import ToxiproxyServer
from chaos.errors import EnvironmentUnavailable

UPSTREAM = "127.0.0.1:9"
ANY_PORT = "127.0.0.1:0"


async def test_two_clients_mean_two_servers(start_toxiproxy: Callable[[], Awaitable[ToxiproxyServer]]) -> None:
    """The address is each client's own, also when both are used at once."""
    first, second = await start_toxiproxy(), await start_toxiproxy()
    await asyncio.gather(
        *(first.client.create(f"first{number}", ANY_PORT, UPSTREAM) for number in range(5)),
        *(second.client.create(f"second{number}", ANY_PORT, UPSTREAM) for number in range(5)),
    )
    assert set(await first.client.proxies()) == {f"first{number}" for number in range(5)}
    assert set(await second.client.proxies()) == {f"second{number}" for number in range(5)}


async def test_the_library_of_others_is_left_alone(client: Toxiproxy) -> None:
    """What a user's own code does with toxiproxy-python does not move our client, nor does ours move theirs."""
    before = library.server.APIConsumer.host, library.server.APIConsumer.port
    try:
        library.Toxiproxy().update_api_consumer("192.0.2.1", 1)
        assert await client.version() == "2.12.0"
        assert (library.server.APIConsumer.host, library.server.APIConsumer.port) == ("192.0.2.1", 1)
    finally:
        library.Toxiproxy().update_api_consumer(*before)
    assert before == ("127.0.0.1", 8474)


async def test_a_port_in_use_is_an_error(client: Toxiproxy) -> None:
    """The server's 500 comes through with its words, and no proxy is left."""
    with Reservation() as taken, socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", taken.port))
        listener.listen()
        with pytest.raises(ToxiproxyError, match="address already in use") as caught:
            await client.create("busy", f"127.0.0.1:{taken.port}", UPSTREAM)
    assert caught.value.status == 500
    assert await client.proxies() == {}


async def test_enabling_on_a_port_that_was_stolen_is_an_error(client: Toxiproxy) -> None:
    """Neither enable nor reset pretends that the proxy listens."""
    made = await client.create("stolen", ANY_PORT, UPSTREAM)
    await client.disable("stolen")
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", made.port))
        thief.listen()
        for change in (client.enable("stolen"), client.reset()):
            with pytest.raises(ToxiproxyError, match="address already in use") as caught:
                await change
            assert caught.value.status == 500
        assert not (await client.proxy("stolen")).enabled


async def test_a_server_that_does_not_answer_is_given_up(toxiproxy: ToxiproxyServer) -> None:
    """Every request has an end: a stopped server costs the timeout, and the error says so."""
    assert toxiproxy.child is not None
    hasty = Toxiproxy(toxiproxy.client.url, timeout_s=0.2)
    toxiproxy.child.send(signal.SIGSTOP)
    try:
        with pytest.raises(ToxiproxyError, match=r"no answer to GET /version within 0\.2s") as caught:
            await hasty.version()
        assert caught.value.status is None
        with pytest.raises(ToxiproxyError, match="no answer to POST /proxies within"):
            await hasty.create("late", ANY_PORT, UPSTREAM)
    finally:
        toxiproxy.child.send(signal.SIGCONT)


async def test_a_server_that_is_gone_is_an_error(toxiproxy: ToxiproxyServer) -> None:
    """Nobody listens: the operating system's reason is told, by every kind of call."""
    await toxiproxy.stop()
    for call in (toxiproxy.client.version(), toxiproxy.client.reset(), toxiproxy.client.enable("redis")):
        with pytest.raises(ToxiproxyError, match="cannot be reached: Connection refused"):
            await call
    with pytest.raises(EnvironmentUnavailable, match="start a toxiproxy-server there"):
        await toxiproxy.client.demand()


async def test_refusals_keep_their_words(client: Toxiproxy) -> None:
    """A 400, 404 or 409 is what the server says it is, not what the library takes every one of them for."""
    await client.create("p", ANY_PORT, UPSTREAM)
    await client.add_toxic("p", "t", "latency", "downstream", 1.0, {"latency": 1})
    for change, status, text in (
        (client.create("p", ANY_PORT, UPSTREAM), 409, "proxy already exists"),
        (client.create("q", ANY_PORT, ""), 400, "missing required field: upstream"),
        (client.add_toxic("p", "t", "latency", "upstream", 1.0, {}), 409, "toxic already exists"),
        (client.add_toxic("p", "u", "nonsense", "upstream", 1.0, {}), 400, "invalid toxic type"),
        (
            client.add_toxic("p", "u", "latency", "sideways", 1.0, {}),
            400,
            "stream was invalid, can be either upstream or downstream",
        ),  # type: ignore[arg-type]  # on purpose
        (client.add_toxic("q", "u", "latency", "upstream", 1.0, {}), 404, "proxy not found"),
        (client.remove_toxic("p", "u"), 404, "toxic not found"),
        (client.update_toxic("p", "u", {}), 404, "toxic not found"),
        (client.delete("q"), 404, "proxy not found"),
        (client.proxy("q"), 404, "proxy not found"),
        (client.disable("q"), 404, "proxy not found"),
    ):
        with pytest.raises(ToxiproxyError) as caught:
            await change
        assert (caught.value.status, caught.value.text) == (status, text)
        assert str(caught.value) == f"toxiproxy at {client.url}: {text} (HTTP status {status})"


async def test_toxics_are_returned_and_can_be_changed(client: Toxiproxy) -> None:
    """add_toxic and update_toxic say what the server has now; an update leaves what it does not name."""
    await client.create("p", ANY_PORT, UPSTREAM)
    made = await client.add_toxic("p", "slow", "latency", "upstream", 0.25, {"latency": 10, "jitter": 2})
    assert made == Toxic("slow", "latency", "upstream", 0.25, {"latency": 10, "jitter": 2})
    assert await client.update_toxic("p", "slow", {"latency": 20}) == Toxic(
        "slow", "latency", "upstream", 0.25, {"latency": 20, "jitter": 2}
    )
    changed = await client.update_toxic("p", "slow", toxicity=1.0)
    assert (await client.proxy("p")).toxics == (changed,)
    await client.remove_toxic("p", "slow")
    assert (await client.proxy("p")).toxics == ()


async def test_attributes_become_integers(client: Toxiproxy) -> None:
    """10.0 is 10, which the server refuses in the first form; 10.5 is refused by us, before it is sent."""
    await client.create("p", ANY_PORT, UPSTREAM)
    made = await client.add_toxic("p", "t", "latency", "downstream", 1.0, {"latency": 10.0})
    assert made.attributes == {"latency": 10, "jitter": 0}
    with pytest.raises(ValueError, match=r"latency=10\.5 must be a whole number"):
        await client.update_toxic("p", "t", {"latency": 10.5})
    with pytest.raises(ValueError, match="latency=True must be a whole number"):
        await client.update_toxic("p", "t", {"latency": True})
    assert (await client.proxy("p")).toxics == (made,)


async def test_a_proxy_listens_where_it_was_told(client: Toxiproxy) -> None:
    """The address is passed on as given, and port 0 comes back as the port that was bound."""
    made = await client.create("everywhere", "0.0.0.0:0", UPSTREAM)
    assert made == ToxiproxyProxy("everywhere", made.listen, UPSTREAM, True, ())
    assert made.port > 0
    with socket.create_connection(("127.0.0.1", made.port), timeout=5):
        pass
    off = await client.create("off", ANY_PORT, UPSTREAM, enabled=False)
    assert not off.enabled


async def test_a_name_in_use_keeps_its_proxy(client: Toxiproxy, proxy: ToxiproxyProxy) -> None:
    """Creating it again with another upstream neither replaces it nor drops its connections."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    with pytest.raises(ToxiproxyError, match="proxy already exists"):
        await client.create("redis", ANY_PORT, UPSTREAM)
    assert await client.proxy("redis") == proxy
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    writer.close()


@pytest.mark.parametrize("name", ["x?y", "x%y", "x#y", "x y", "x;y", "ünïcödé", "x&y=z", "x%2Fy"])
async def test_names_are_quoted(client: Toxiproxy, name: str) -> None:
    """Whatever a name holds, only its own proxy and toxic are touched."""
    await client.create("x", ANY_PORT, UPSTREAM)
    await client.create(name, ANY_PORT, UPSTREAM)
    await client.add_toxic(name, name, "latency", "upstream", 1.0, {"latency": 1})
    assert (await client.update_toxic(name, name, {"latency": 2})).attributes["latency"] == 2
    assert not (await client.disable(name)).enabled
    await client.remove_toxic(name, name)
    await client.delete(name)
    left = await client.proxies()
    assert list(left) == ["x"]
    assert left["x"].enabled


@pytest.mark.parametrize("name", ["", "a/b", ".", ".."])
async def test_names_that_cannot_be_addressed_are_refused(client: Toxiproxy, name: str) -> None:
    """A proxy or toxic that could never be removed again is not made."""
    await client.create("x", ANY_PORT, UPSTREAM)
    with pytest.raises(ValueError, match="cannot be addressed"):
        await client.create(name, ANY_PORT, UPSTREAM)
    with pytest.raises(ValueError, match="cannot be addressed"):
        await client.add_toxic("x", name, "noop", "upstream", 1.0, {})
    assert {key: one.toxics for key, one in (await client.proxies()).items()} == {"x": ()}


async def test_proxies_of_the_environment_are_ignored(client: Toxiproxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and its kin do not stand between us and the server, whatever NO_PROXY says."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert await client.version() == "2.12.0"
    await client.create("p", ANY_PORT, UPSTREAM)
    await client.delete("p")


async def test_changes_are_read_back(client: Toxiproxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that did not come about is an error even when nothing said so."""
    await client.create("p", ANY_PORT, UPSTREAM)
    await client.add_toxic("p", "t", "latency", "upstream", 1.0, {"latency": 1})
    monkeypatch.setattr(client._library, "change", lambda *arguments, **named: None)
    monkeypatch.setattr(client._library, "post", lambda *arguments, **named: None)
    for change, text in (
        (client.disable("p"), "proxy p has enabled=True after it was set to False"),
        (client.delete("p"), "proxy p is still there after its removal"),
        (client.update_toxic("p", "t", {"latency": 2}), "toxic t was changed to"),
        (client.update_toxic("p", "t", toxicity=0.5), "toxic t was changed to"),
        (client.remove_toxic("p", "t"), "toxic t is still there after its removal"),
        (client.add_toxic("p", "t", "latency", "upstream", 1.0, {"latency": 5}), "toxic t was made as"),
        (client.create("p", ANY_PORT, "127.0.0.1:10"), "proxy p was made as"),
        (client.reset(), "proxy p is .* after the reset"),
    ):
        with pytest.raises(ToxiproxyError, match=text):
            await change


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("bandwidth", {"rate": -1}),
        ("latency", {"jitter": 2**62}),
        ("slicer", {}),
        ("slicer", {"average_size": 10, "size_variation": 11}),
    ],
)
async def test_what_ends_the_server_is_refused(client: Toxiproxy, kind: str, attributes: dict[str, int]) -> None:
    """Values that the real server accepts and dies of never reach it."""
    await client.create("p", ANY_PORT, UPSTREAM)
    with pytest.raises(ValueError, match="must be"):
        await client.add_toxic("p", "t", kind, "downstream", 1.0, attributes)
    assert (await client.proxy("p")).toxics == ()


async def test_a_toxicity_that_is_no_share_is_refused(client: Toxiproxy) -> None:
    """The server would take 7 and -3."""
    await client.create("p", ANY_PORT, UPSTREAM)
    await client.add_toxic("p", "t", "noop", "downstream", 1.0, {})
    with pytest.raises(ValueError, match="toxicity=7 must be from 0 to 1"):
        await client.add_toxic("p", "u", "noop", "downstream", 7, {})
    with pytest.raises(ValueError, match="toxicity=-3 must be from 0 to 1"):
        await client.update_toxic("p", "t", toxicity=-3)


async def test_metrics_tell_the_traffic_of_ended_connections(client: Toxiproxy, proxy: ToxiproxyProxy) -> None:
    """Bytes by proxy and stream, of connections that are over; an idle proxy is absent."""
    assert await client.metrics() == {}
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(5):
        while len((traffic := (await client.metrics()).get("redis", Traffic())).sent) < 2:
            await asyncio.sleep(0.01)
    assert traffic.received == {"upstream": 6, "downstream": 7}
    assert traffic.sent == {"upstream": 6, "downstream": 7}


async def test_an_answer_in_html_is_an_error_with_its_words() -> None:
    """What a server says when it gives up on its own handler is told without its markup."""
    with _web_server() as url:
        with pytest.raises(ToxiproxyError, match=r"Timeout \(HTTP status 503\)") as caught:
            await Toxiproxy(url).remove_toxic("redis", "asleep")
        assert caught.value.status == 503
        assert "<" not in caught.value.text


@pytest.mark.deep
@pytest.mark.slow
async def test_a_toxiproxy_that_gives_up_answers_in_html(
    toxiproxy: ToxiproxyServer, proxy: ToxiproxyProxy, redis: RedisServer
) -> None:
    """The server gives up on its own handler after 25 s, in HTML: a toxic that sleeps cannot be removed."""
    patient = Toxiproxy(toxiproxy.client.url, timeout_s=40)
    await patient.add_toxic("redis", "asleep", "reset_peer", "upstream", 1.0, {"timeout": 40_000})
    _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"PING\r\n")
    await writer.drain()
    async with asyncio.timeout(5):
        while not connected_to("127.0.0.1", redis.port):
            await asyncio.sleep(0.01)
    with pytest.raises(ToxiproxyError, match=r"(?i)timeout|unavailable") as caught:
        await patient.remove_toxic("redis", "asleep")
    assert caught.value.status == 503
    assert "<" not in caught.value.text
    writer.close()


@contextlib.contextmanager
def _web_server():  # type: ignore[no-untyped-def]
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'["not", "a", "toxiproxy"]' if self.path == "/proxies" else b"<html><body>Welcome</body></html>"
            self.send_response(302 if self.path == "/proxies/moved" else 200)
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(b"<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def test_another_server_on_the_port_is_told_apart(redis: RedisServer) -> None:
    """A web server and a Redis are no Toxiproxy, and every answer of theirs is an error, none a KeyError."""
    with _web_server() as url:
        client = Toxiproxy(url)
        for call in (client.proxies(), client.proxy("p"), client.proxy("moved")):
            with pytest.raises(ToxiproxyError):
                await call
        with pytest.raises(EnvironmentUnavailable, match="which is no Toxiproxy"):
            await client.demand()
    with pytest.raises(ToxiproxyError, match="cannot be reached"):
        await Toxiproxy(f"http://127.0.0.1:{redis.port}", timeout_s=1).proxies()


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1:8474", "http://", "http://127.0.0.1:port", "http://h/path", "ftp://h", "http://u@h"]
)
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    """The library speaks plain HTTP to the root of a server, so nothing else is accepted."""
    with pytest.raises(EnvironmentUnavailable, match="is not the address of a Toxiproxy"):
        Toxiproxy(url)


def test_addresses_have_short_forms() -> None:
    """The port is 8474 unless given; brackets of IPv6 stay, since the library puts host and port together."""
    assert address_of("localhost") == ("localhost", 8474)
    assert address_of("http://127.0.0.1:1234/") == ("127.0.0.1", 1234)
    assert address_of("http://[::1]:1234") == ("[::1]", 1234)
