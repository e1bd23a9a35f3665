"""What the tests of the API share: a client that hides nothing, upstreams, and raw connections."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests_support import wait_until

from chaos.backends.ports import Reservation

TIMEOUT_S = 10.0
DAY_MS = 24 * 3600 * 1000
RANGES: dict[str, dict[str, tuple[int, int]]] = {
    "latency": {"latency": (0, DAY_MS), "jitter": (0, DAY_MS)},
    "bandwidth": {"rate": (0, 10**7)},
    "slow_close": {"delay": (0, DAY_MS)},
    "timeout": {"timeout": (0, DAY_MS)},
    "reset_peer": {"timeout": (0, DAY_MS)},
    "slicer": {"average_size": (1, 2**31 - 1), "size_variation": (0, 2**31 - 1), "delay": (0, DAY_MS * 1000)},
    "limit_data": {"bytes": (0, 2**63 - 1)},
    "noop": {},
}
"""The attributes of each type of toxic, and what our server takes for them."""

TOXIPROXY = "toxiproxy"
CHAOS = "chaos"


@dataclass(frozen=True)
class Reply:
    """One answer: status, text and headers, with lower-case names."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.text)

    @property
    def error(self) -> str:
        """The text of an error."""
        return str(self.json["error"])


class Api:
    """A server of the API, and calls to it. `kind` is the name of its make."""

    def __init__(self, kind: str, host: str, port: int, process: subprocess.Popen[str]) -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.process = process
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    @property
    def url(self) -> str:
        """Its address, for clients."""
        return f"http://{self.host}:{self.port}"

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send a request; a body that is neither text nor bytes is sent as JSON."""
        data = json.dumps(body) if body is not None and not isinstance(body, str | bytes) else body
        raw = data.encode() if isinstance(data, str) else data
        for attempt in range(2):
            try:
                self._connection.request(method, path, raw, headers or {})
                answer = self._connection.getresponse()
                text = answer.read().decode()
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()  # the server closed it while it was idle
                if attempt:
                    raise
            else:
                return Reply(answer.status, text, {name.lower(): value for name, value in answer.getheaders()})
        raise AssertionError

    def get(self, path: str) -> Reply:
        """Send GET."""
        return self.call("GET", path)

    def post(self, path: str, body: Any = "") -> Reply:
        """Send POST."""
        return self.call("POST", path, body)

    def patch(self, path: str, body: Any) -> Reply:
        """Send PATCH."""
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> Reply:
        """Send DELETE."""
        return self.call("DELETE", path)

    def create(self, name: str = "p", upstream: str = "127.0.0.1:1", **fields: Any) -> dict[str, Any]:
        """Make a proxy on loopback and return what the server says of it."""
        made = self.post("/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, **fields})
        assert made.status == 201, made
        return dict(made.json)

    def toxic(self, kind: str, proxy: str = "p", **fields: Any) -> dict[str, Any]:
        """Add a toxic and return what the server says of it."""
        made = self.post(f"/proxies/{proxy}/toxics", {"type": kind, **fields})
        assert made.status == 200, made
        return dict(made.json)

    def clear(self) -> bool:
        """Delete every proxy; False when there are some that no path can name, because of a slash."""
        for name in self.get("/proxies").json:
            self.delete(f"/proxies/{quote(name, safe='')}")
        return self.get("/proxies").text == "{}"

    def raw(self, data: bytes, *, shut: bool = False) -> bytes:
        """Send bytes on a connection of their own and return all that comes back until the server closes it."""
        with socket.create_connection((self.host, self.port), timeout=TIMEOUT_S) as sock:
            sock.sendall(data)
            if shut:
                sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def alive(self) -> bool:
        """Tell whether it runs and answers, on a new connection."""
        if self.process.poll() is not None:
            return False
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/version")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code."""
        self._connection.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


def start_chaos(*options: str, host: str = "127.0.0.1", log: Path | None = None, descriptors: int | None = None) -> Api:
    """Start `chaos proxy` on a free port, and let it have so many descriptors; None is as many as we may."""
    limited = [] if descriptors is None else ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    command = [*limited, sys.executable, "-m", "chaos", "proxy", "--host", host, "--port", "0", *options]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w")) if log else subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "API at http://" in line, f"{line!r}, exit code {process.poll()}"
    address = line.split("http://")[1].split(",")[0]
    return Api(CHAOS, address.rpartition(":")[0].strip("[]"), int(address.rpartition(":")[2]), process)


def start_toxiproxy() -> Api:
    """Start the toxiproxy-server on PATH."""
    with Reservation() as reservation:
        port = reservation.port
    environment = {**os.environ, "LOG_LEVEL": "error"}
    command = ["toxiproxy-server", "-host", "127.0.0.1", "-port", str(port), "-proxy-metrics", "-seed", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, text=True
    )
    api = Api(TOXIPROXY, "127.0.0.1", port, process)

    def _answers() -> bool:
        with contextlib.suppress(OSError):
            return api.alive()
        return False

    assert wait_until(_answers)
    return api


class Upstream:
    """A server that sends back what it gets, or is told what to do with each connection."""

    def __init__(self, *, echo: bool = True, farewell: bytes = b"") -> None:
        """With `echo` it sends back what it gets; at the end of a stream it sends `farewell`."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listener.getsockname()[1])
        self.received = 0
        self.connections: list[socket.socket] = []
        self._echo = echo
        self._farewell = farewell
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port as the API wants them."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop listening and close what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                self.received += len(data)
                if self._echo:
                    connection.sendall(data)
            connection.sendall(self._farewell)
            connection.shutdown(socket.SHUT_WR)


def connect(listen: str, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """Connect to a proxy's listen address."""
    host, _, port = listen.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """Send bytes and read as many."""
    sock.sendall(data)
    return read_exactly(sock, len(data))


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes, or fewer when the peer ends."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def read_all(sock: socket.socket) -> bytes:
    """Read until the end of file; a reset counts as one."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(65536):
            data += more
    return data


def ending(sock: socket.socket) -> str:
    """Wait for the end of a connection: "fin" or "rst"."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return "rst"
    return "fin"


@contextlib.contextmanager
def timed() -> Iterator[list[float]]:
    """Give a list that gets the seconds the block took."""
    seconds: list[float] = []
    began = time.monotonic()
    yield seconds
    seconds.append(time.monotonic() - began)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Give an address that answers no SYN: a listener whose backlog is full (listen(2)), and never accepted from."""
    listener = socket.socket()
    fillers = []
    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        probe = socket.socket()
        probe.settimeout(0.3)
        fillers.append(probe)
        try:
            probe.connect(address)
        except TimeoutError:
            pass
        else:
            raise AssertionError("the listener still takes connections")
        yield f"127.0.0.1:{address[1]}"
    finally:
        for filler in fillers:
            filler.close()
        listener.close()
