"""HTTP as both servers speak it: framing, routing, errors, headers, and the guard against browsers."""

from __future__ import annotations

import re
import socket

import pytest
from api_support import Api

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
NO_CONTENT = 204


def test_version(api: Api) -> None:
    """The version is JSON with a newline, of a content type of its own."""
    reply = api.get("/version")
    assert (reply.status, reply.text) == (200, '{"version": "2.12.0"}\n')
    assert reply.headers["content-type"] == "application/json;charset=utf-8"


def test_success_is_json_without_a_newline(api: Api) -> None:
    """Bodies of success have no newline, no nosniff, and an id."""
    reply = api.get("/proxies")
    assert (reply.status, reply.text) == (200, "{}")
    assert reply.headers["content-type"] == JSON
    assert "x-content-type-options" not in reply.headers
    assert re.fullmatch(r"[0-9a-v]{20}", reply.headers["x-toxiproxy-request-id"])


def test_ids_differ(api: Api) -> None:
    """Each answer has an id of its own."""
    ids = {api.get("/version").headers["x-toxiproxy-request-id"] for _ in range(20)}
    assert len(ids) == 20


def test_errors_are_text(api: Api) -> None:
    """An error is JSON with a newline that calls itself text, and forbids guessing."""
    reply = api.get("/proxies/nobody")
    assert (reply.status, reply.text) == (404, '{"error":"proxy not found","status":404}\n')
    assert reply.headers["content-type"] == TEXT
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["x-toxiproxy-request-id"]


def test_errors_of_populate_are_json(api: Api) -> None:
    """Populate is the exception: its errors are JSON, and name what was done."""
    reply = api.post("/populate", "{")
    assert reply.text == '{"error":"bad request body: unexpected EOF","status":400,"proxies":null}'
    assert reply.headers["content-type"] == JSON


def test_no_content(api: Api) -> None:
    """204 has neither body nor type."""
    reply = api.post("/reset")
    assert (reply.status, reply.text) == (NO_CONTENT, "")
    assert "content-type" not in reply.headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/proxies/",
        "/version/",
        "/VERSION",
        "/proxies/a/b",
        "/proxies/a/toxics/",
        "/proxies/a/toxics/b/c",
    ],
)
def test_unknown_paths(api: Api, path: str) -> None:
    """A path that is not there, or ends in a slash, is answered by the router, without an id."""
    reply = api.get(path)
    assert (reply.status, reply.text) == (404, "404 page not found\n")
    assert reply.headers["content-type"] == TEXT
    assert "x-toxiproxy-request-id" not in reply.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/proxies"),
        ("DELETE", "/proxies"),
        ("HEAD", "/version"),
        ("OPTIONS", "/proxies/a"),
        ("GET", "/reset"),
        ("GET", "/populate"),
        ("PATCH", "/proxies/a/toxics"),
        ("PUT", "/proxies/a/toxics/b"),
        ("POST", "/version"),
    ],
)
def test_wrong_methods(api: Api, method: str, path: str) -> None:
    """A method that a path does not have is 405 with an empty body."""
    reply = api.call(method, path)
    assert (reply.status, reply.text) == (405, "")
    assert "x-toxiproxy-request-id" not in reply.headers


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//proxies", "/proxies"),
        ("/./version", "/version"),
        ("/proxies/../version?x=1", "/version?x=1"),
        ("/a//", "/a/"),
    ],
)
def test_untidy_paths(api: Api, path: str, location: str) -> None:
    """Paths with empty or dotted segments are sent to the tidy one."""
    reply = api.get(path)
    assert (reply.status, reply.headers["location"], reply.text) == (301, location, "")


def test_encoded_paths(api: Api) -> None:
    """Escapes are undone before routing; a slash in a name can therefore not be addressed."""
    api.create("a b?é")
    assert api.get("/proxies/a%20b%3F%C3%A9").json["name"] == "a b?é"
    api.post("/proxies", {"name": "x/y", "upstream": "u:1", "enabled": False})
    assert "x/y" in api.get("/proxies").json
    assert api.get("/proxies/x%2Fy").status == 404


def test_a_query_is_ignored(api: Api) -> None:
    """What follows a question mark changes nothing."""
    assert api.get("/version?pretty").status == 200


@pytest.mark.parametrize(
    ("agent", "status"), [("Mozilla/5.0", 403), ("Mozilla/", 403), ("mozilla/5.0", 200), ("Mozilla", 200)]
)
def test_browsers_are_refused(api: Api, agent: str, status: int) -> None:
    """Whoever calls itself Mozilla/ is refused, with an id."""
    reply = api.call("GET", "/version", headers={"User-Agent": agent})
    assert reply.status == status
    assert reply.headers["x-toxiproxy-request-id"]
    if status == 403:
        assert reply.text == "User agent not allowed\n"
        assert reply.headers["content-type"] == TEXT


def test_the_router_comes_before_the_guard(api: Api) -> None:
    """A browser learns 404 and 405 as everybody does."""
    browser = {"User-Agent": "Mozilla/5.0"}
    assert api.call("GET", "/nothing", headers=browser).status == 404
    assert api.call("PUT", "/version", headers=browser).status == 405


def test_the_content_type_of_a_request_is_ignored(api: Api) -> None:
    """JSON is JSON, whatever it is called."""
    headers = {"Content-Type": "image/png"}
    assert api.call("POST", "/proxies", {"name": "a", "upstream": "u:1"}, headers).status == 201


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET version HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET /version HTTP/1.1\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_malformed_requests(api: Api, data: bytes) -> None:
    """What is not HTTP is 400 and the end of the connection, and of nothing else."""
    answer = api.raw(data)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert api.alive()


def test_other_versions_of_http(api: Api) -> None:
    """HTTP/1.0 is answered and closed; what is neither 1.0 nor 1.1 is refused."""
    assert api.raw(b"GET /version HTTP/1.0\r\n\r\n").endswith(b'{"version": "2.12.0"}\n')
    assert api.raw(b"GET /version HTTP/2.7\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 505 ")


def test_headers_without_end(api: Api) -> None:
    """Two megabytes of request line are refused."""
    assert api.raw(b"GET /" + b"a" * 2_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 431 ")


def test_chunked_bodies(api: Api) -> None:
    """A body may come in chunks."""
    body = b'{"name":"chunked","upstream":"u:1","enabled":false}'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    head = b"POST /proxies HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert api.raw(head + chunks).startswith(b"HTTP/1.1 201 ")


def test_pipelined_requests(api: Api) -> None:
    """Requests that come before their turn are answered in order."""
    one = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /proxies/nobody HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = api.raw(one * 50 + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 50
    assert answer.endswith(b'{"error":"proxy not found","status":404}\n')


def test_a_body_that_is_waited_for(api: Api) -> None:
    """A client that asks before it sends a body is told to go on."""
    with socket.create_connection((api.host, api.port), timeout=10) as sock:
        sock.sendall(
            b"POST /proxies HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"{}")
        assert b'{"error":"missing required field: name","status":400}' in sock.recv(65536)


def test_answers_escape_markup(api: Api) -> None:
    """Answers hold no character that a browser could take for markup."""
    api.post("/proxies", '{"name":"<&>","upstream":"\\u2028é","enabled":false}')
    text = api.get("/proxies").text
    assert '{"\\u003c\\u0026\\u003e":{"name":"\\u003c\\u0026\\u003e","listen":"","upstream":"\\u2028é"' in text
