"""Proxies: create, show, change, switch, delete, populate, reset; the same on both servers."""

from __future__ import annotations

import re
import socket

import pytest
from api_support import CHAOS, Api, Upstream, connect, ending, exchange
from tests_support import wait_until

from chaos.backends.ports import Reservation

IN_USE = "bind: address already in use"


def listening_port() -> socket.socket:
    """Return a socket that listens on loopback, without SO_REUSEADDR."""
    return socket.create_server(("127.0.0.1", 0), reuse_port=False)


def test_create(api: Api) -> None:
    """A new proxy is shown with its bound address, enabled, without toxics; 201."""
    reply = api.post("/proxies", {"name": "p", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"})
    assert reply.status == 201
    assert re.fullmatch(
        r'{"name":"p","listen":"127\.0\.0\.1:\d+","upstream":"127\.0\.0\.1:1","enabled":true,"Logger":{},"toxics":\[\]}',
        reply.text,
    )
    assert api.get("/proxies/p").text == reply.text
    assert api.get("/proxies").json == {"p": reply.json}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "missing required field: name"),
        ({"name": ""}, "missing required field: name"),
        ({"upstream": "x:1"}, "missing required field: name"),
        ({"name": "p"}, "missing required field: upstream"),
        ({"name": "p", "upstream": ""}, "missing required field: upstream"),
    ],
)
def test_required_fields(api: Api, body: dict[str, str], error: str) -> None:
    """Name and upstream are needed, the name first."""
    reply = api.post("/proxies", body)
    assert (reply.status, reply.error) == (400, error)


def test_a_name_is_taken_once(api: Api) -> None:
    """A second proxy of the name is 409, even when it could not listen either."""
    first = api.create()
    reply = api.post("/proxies", {"name": "p", "listen": "nonsense", "upstream": "x:1"})
    assert (reply.status, reply.error) == (409, "proxy already exists")
    assert api.get("/proxies/p").json == first


@pytest.mark.parametrize(
    ("listen", "error"),
    [
        ("foo", "listen tcp: address foo: missing port in address"),
        ("127.0.0.1:65536", "listen tcp: address 65536: invalid port"),
        ("127.0.0.1:-1", "listen tcp: address -1: invalid port"),
        ("127.0.0.1:foo", "listen tcp: lookup tcp/foo: unknown port"),
        ("a:b:c", "listen tcp: address a:b:c: too many colons in address"),
        ("::1", "listen tcp: address ::1: too many colons in address"),
        ("[::1]", "listen tcp: address [::1]: missing port in address"),
        ("[::1", "listen tcp: address [::1: missing port in address"),
        ("[::1:5", "listen tcp: address [::1:5: missing ']' in address"),
        ("a]:5", "listen tcp: address a]:5: unexpected ']' in address"),
        ("a[:5", "listen tcp: address a[:5: unexpected '[' in address"),
        ("192.0.2.1:0", "listen tcp 192.0.2.1:0: bind: cannot assign requested address"),
    ],
)
def test_addresses_that_cannot_be(api: Api, listen: str, error: str) -> None:
    """Each is 500 with Go's words, and makes no proxy."""
    reply = api.post("/proxies", {"name": "p", "listen": listen, "upstream": "x:1"})
    if listen == "[::1":
        assert reply.error in (error, "listen tcp: address [::1: missing ']' in address")
    else:
        assert reply.error == error
    assert reply.status == 500
    assert api.get("/proxies").json == {}


def test_a_port_that_is_taken(api: Api) -> None:
    """It is 500, and makes no proxy."""
    with listening_port() as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        reply = api.post("/proxies", {"name": "p", "listen": listen, "upstream": "x:1"})
    assert (reply.status, reply.error) == (500, f"listen tcp {listen}: {IN_USE}")
    assert api.get("/proxies").json == {}


def test_a_name_that_does_not_resolve(api: Api) -> None:
    """It is 500 with the name in its words."""
    reply = api.post("/proxies", {"name": "p", "listen": "nobody.invalid:0", "upstream": "x:1"})
    assert reply.status == 500
    assert re.fullmatch(r"listen tcp: lookup nobody\.invalid.*", reply.error)


def test_host_names_listen_on_ipv4(api: Api) -> None:
    """The name localhost means 127.0.0.1."""
    assert api.create(listen="localhost:0")["listen"].startswith("127.0.0.1:")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", ":0", "[::]:0"])
def test_wildcards_listen_on_both_families(api: Api, listen: str) -> None:
    """All interfaces means IPv6 and IPv4."""
    port = api.create(listen=listen)["listen"].removeprefix("[::]:")
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, int(port)), timeout=5):
            pass


def test_ipv6(api: Api, upstream: Upstream) -> None:
    """A proxy may listen on IPv6."""
    listen = api.create(listen="[::1]:0", upstream=upstream.address)["listen"]
    assert listen.startswith("[::1]:")
    with connect(listen) as client:
        assert exchange(client, b"six") == b"six"


def test_an_upstream_may_be_a_name(api: Api, upstream: Upstream) -> None:
    """It is looked up when a client comes."""
    with connect(api.create(upstream=f"localhost:{upstream.port}")["listen"]) as client:
        assert exchange(client, b"named") == b"named"


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "127.0.0.1:99999", "[", "nobody.invalid:1", ":"])
def test_an_upstream_that_cannot_be_reached(api: Api, address: str) -> None:
    """A proxy takes any upstream; the client is let in, and then reads the end of the file."""
    with connect(api.create(upstream=address)["listen"]) as client:
        assert ending(client) == "fin"


def test_a_proxy_that_begins_switched_off(api: Api) -> None:
    """It is shown with the address as given, not even looked at, and listens once it is switched on."""
    assert api.create(listen="nonsense", enabled=False)["listen"] == "nonsense"
    api.delete("/proxies/p")
    assert api.create(listen="localhost:0", enabled=False)["listen"] == "localhost:0"
    on = api.patch("/proxies/p", {"enabled": True}).json
    assert on["enabled"] is True
    connect(on["listen"]).close()


def test_delete(api: Api, upstream: Upstream) -> None:
    """A deleted proxy refuses, its connections have ended, and its name and port are free."""
    listen = api.create(upstream=upstream.address)["listen"]
    with connect(listen) as client:
        exchange(client, b"x")
        assert api.delete("/proxies/p").status == 204
        assert ending(client) == "fin"
    with pytest.raises(ConnectionRefusedError):
        connect(listen)
    assert api.delete("/proxies/p").error == "proxy not found"
    assert api.create(listen=listen)["listen"] == listen


def test_switching_off(api: Api, upstream: Upstream) -> None:
    """Off: connections end, new ones are refused, address and toxics stay. On again: as before. Twice is once."""
    made = api.create(upstream=upstream.address)
    api.toxic("noop")
    with connect(made["listen"]) as client:
        exchange(client, b"x")
        for _ in range(2):
            off = api.patch("/proxies/p", {"enabled": False})
            assert (off.status, off.json["enabled"], off.json["listen"]) == (200, False, made["listen"])
        assert ending(client) == "fin"
    with pytest.raises(ConnectionRefusedError):
        connect(made["listen"])
    api.toxic("latency")
    for _ in range(2):
        on = api.patch("/proxies/p", {"enabled": True}).json
        assert (on["enabled"], on["listen"], len(on["toxics"])) == (True, made["listen"], 2)
    with connect(made["listen"]) as client:
        assert exchange(client, b"x") == b"x"


def test_switching_off_loses_what_toxics_hold(api: Api, upstream: Upstream) -> None:
    """A reply that is late when its proxy goes down never comes."""
    listen = api.create(upstream=upstream.address)["listen"]
    api.toxic("latency", attributes={"latency": 60_000})
    with connect(listen) as client:
        client.sendall(b"question")
        assert wait_until(lambda: upstream.received == 8)
        api.patch("/proxies/p", {"enabled": False})
        assert client.recv(100) == b""


def test_a_change_of_nothing(api: Api, upstream: Upstream) -> None:
    """An empty change, the same values, and another name leave everything, connections too."""
    made = api.create(upstream=upstream.address)
    with connect(made["listen"]) as client:
        exchange(client, b"x")
        for body in ("{}", {"name": "q"}, {"listen": made["listen"], "upstream": made["upstream"], "enabled": True}):
            assert api.patch("/proxies/p", body).json == made
            assert api.post("/proxies/p", body).json == made
        localhost = made["listen"].replace("127.0.0.1", "localhost")
        assert api.patch("/proxies/p", {"listen": localhost}).json == made
        assert exchange(client, b"y") == b"y"


def test_another_upstream(api: Api, upstream: Upstream) -> None:
    """Connections end, the address and the toxics stay, new connections go to the new upstream."""
    made = api.create()
    api.toxic("noop")
    with connect(made["listen"]) as old:
        changed = api.patch("/proxies/p", {"upstream": upstream.address}).json
        assert (changed["upstream"], changed["listen"]) == (upstream.address, made["listen"])
        assert len(changed["toxics"]) == 1
        assert ending(old) in ("fin", "rst")
    with connect(made["listen"]) as client:
        assert exchange(client, b"new") == b"new"


def test_another_address(api: Api, upstream: Upstream) -> None:
    """Connections end, the old address refuses, the new one answers; port 0 is always another."""
    made = api.create(upstream=upstream.address)
    with connect(made["listen"]) as old:
        exchange(old, b"x")
        moved = api.patch("/proxies/p", {"listen": "127.0.0.1:0"}).json
        assert moved["listen"] != made["listen"]
        assert ending(old) == "fin"
    with pytest.raises(ConnectionRefusedError):
        connect(made["listen"])
    with connect(moved["listen"]) as client:
        assert exchange(client, b"moved") == b"moved"


def test_an_address_that_is_taken(api: Api) -> None:
    """A move to a taken address is 500; the proxy keeps the new address and is off, until it can be had."""
    api.create()
    with listening_port() as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        reply = api.patch("/proxies/p", {"listen": listen})
        assert (reply.status, reply.error) == (500, f"listen tcp {listen}: {IN_USE}")
        shown = api.get("/proxies/p").json
        assert (shown["listen"], shown["enabled"]) == (listen, False)
        assert api.patch("/proxies/p", {"enabled": True}).status == 500
    assert api.patch("/proxies/p", {"enabled": True}).json["listen"] == listen


@pytest.mark.parametrize(
    ("listen", "error"),
    [
        ("foo", "address foo: missing port in address"),
        ("127.0.0.1:x", "lookup tcp/x: unknown port"),
        ("127.0.0.1:70000", "address 70000: invalid port"),
    ],
)
def test_a_change_to_an_impossible_address(api: Api, listen: str, error: str) -> None:
    """It is 500 and changes nothing."""
    made = api.create()
    reply = api.patch("/proxies/p", {"listen": listen, "upstream": "other:1", "enabled": False})
    assert (reply.status, reply.error) == (500, error)
    assert api.get("/proxies/p").json == made


def test_errors_of_a_change(api: Api) -> None:
    """A proxy that is not there comes before a body that cannot be read."""
    assert api.patch("/proxies/p", "{").error == "proxy not found"
    api.create()
    assert api.patch("/proxies/p", "{").error == "bad request body: unexpected EOF"
    assert api.post("/proxies/p", "").error == "bad request body: EOF"


def test_proxies_are_sorted_by_name(api: Api) -> None:
    """The index is an object in order of name."""
    for name in ("b", "a", "C", "ä"):
        api.create(name)
    assert list(api.get("/proxies").json) == ["C", "a", "b", "ä"]


def test_populate(api: Api) -> None:
    """Proxies are made in order and shown in order; enabled unless they say no."""
    body = [
        {"name": "b", "listen": "127.0.0.1:0", "upstream": "x:1"},
        {"name": "a", "listen": "127.0.0.1:0", "upstream": "x:2", "enabled": False},
        {"name": "c", "listen": "127.0.0.1:0", "upstream": "x:3", "enabled": None},
    ]
    reply = api.post("/populate", body)
    assert reply.status == 201
    assert [(proxy["name"], proxy["enabled"]) for proxy in reply.json["proxies"]] == [
        ("b", True),
        ("a", False),
        ("c", True),
    ]
    assert reply.json["proxies"] == [api.get(f"/proxies/{name}").json for name in "bac"]


@pytest.mark.parametrize("body", ["[]", "null"])
def test_populate_with_nothing(api: Api, body: str) -> None:
    """Nothing is done, and shown as null."""
    reply = api.post("/populate", body)
    assert (reply.status, reply.text) == (201, '{"proxies":null}')


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([{"name": "a", "upstream": "x:1"}, {"name": "b"}], "missing required field: upstream at proxy 2"),
        ([{"upstream": "x:1"}], "missing required field: name at proxy 1"),
        ([None], "missing required field: name at proxy 1"),
        (
            [{"name": 5}],
            "bad request body: json: cannot unmarshal number into Go struct field .Proxy.name of type string",
        ),
        (
            [{"enabled": 5}],
            "bad request body: json: cannot unmarshal number into Go struct field .enabled of type bool",
        ),
    ],
)
def test_populate_checks_first(api: Api, body: object, error: str) -> None:
    """One proxy that lacks something is 400, and none is made."""
    reply = api.post("/populate", body)
    assert (reply.status, reply.json) == (400, {"error": error, "status": 400, "proxies": None})
    assert api.get("/proxies").json == {}


@pytest.mark.parametrize("body", ["{}", "[5]"])
def test_populate_wants_an_array_of_objects(api: Api, body: str) -> None:
    """Anything else is told with Go's name of the type."""
    reply = api.post("/populate", body)
    assert reply.status == 400
    assert r'struct { toxiproxy.Proxy; Enabled *bool "json:\"enabled\"" }' in reply.error


def test_populate_leaves_the_same_alone(api: Api, upstream: Upstream) -> None:
    """A proxy of the same address and upstream keeps its connections, its toxics, and even its switch."""
    made = api.create(upstream=upstream.address)
    api.toxic("noop")
    same = {"name": "p", "listen": made["listen"].replace("127.0.0.1", "localhost"), "upstream": upstream.address}
    with connect(made["listen"]) as client:
        exchange(client, b"x")
        shown = api.post("/populate", [{**same, "enabled": False}]).json["proxies"][0]
        assert (shown["enabled"], len(shown["toxics"])) == (True, 1)
        assert exchange(client, b"y") == b"y"


def test_populate_replaces_what_differs(api: Api, upstream: Upstream) -> None:
    """Another upstream ends the old proxy's connections and loses its toxics."""
    made = api.create(upstream=upstream.address)
    api.toxic("noop")
    with connect(made["listen"]) as client:
        exchange(client, b"x")
        body = [{"name": "p", "listen": made["listen"], "upstream": "127.0.0.1:2"}]
        shown = api.post("/populate", body).json["proxies"][0]
        assert ending(client) == "fin"
    assert (shown["listen"], shown["upstream"], shown["toxics"]) == (made["listen"], "127.0.0.1:2", [])


def test_populate_that_fails_midway(api: Api) -> None:
    """What was made stays and is shown beside the error; a replacement that fails leaves the old proxy off."""
    old = api.create("old")
    with listening_port() as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        body = [
            {"name": "done", "listen": "127.0.0.1:0", "upstream": "x:1"},
            {"name": "old", "listen": listen, "upstream": "x:1"},
            {"name": "never", "listen": "127.0.0.1:0", "upstream": "x:1"},
        ]
        reply = api.post("/populate", body)
    assert reply.status == 500
    assert reply.json == {
        "error": f"listen tcp {listen}: {IN_USE}",
        "status": 500,
        "proxies": [api.get("/proxies/done").json],
    }
    assert api.get("/proxies/old").json == {**old, "enabled": False}
    assert api.get("/proxies/never").status == 404


def test_reset(api: Api, upstream: Upstream) -> None:
    """Every proxy is on, every toxic out; connections live on."""
    made = api.create(upstream=upstream.address)
    api.create("off", enabled=False)
    api.toxic("noop")
    api.toxic("latency", stream="upstream")
    with connect(made["listen"]) as client:
        exchange(client, b"x")
        assert api.post("/reset").status == 204
        assert exchange(client, b"y") == b"y"
    shown = api.get("/proxies").json
    assert [(proxy["enabled"], proxy["toxics"]) for proxy in shown.values()] == [(True, []), (True, [])]
    connect(shown["off"]["listen"]).close()


def test_a_reserved_port_is_not_taken(api: Api) -> None:
    """A port that is bound and not listened on can be had by a proxy (SO_REUSEADDR), as redis-server can have it."""
    with Reservation() as reservation:
        listen = f"127.0.0.1:{reservation.port}"
        assert api.create(listen=listen)["listen"] == listen


def test_the_servers_are_two(api: Api) -> None:
    """The suite runs against both, and tells which is which by a header that only ours sends."""
    assert ("chaos-harness" in api.get("/version").headers.get("server", "")) == (api.kind == CHAOS)
