"""Load for the proxy benchmark: redis-benchmark for small requests where there is one, else our own client.

As a program this is that client: `python benchmarks/load.py --port 6379 --connections 50 --requests 10000`, which
prints the rate and the median latency as one line of JSON. It knows the length of every answer beforehand, so it
counts bytes and parses nothing. Bulk is its own in any case, because redis-benchmark takes longer over an answer of
512 KiB than the server and any proxy do; so is one connection without pipeline, where redis-benchmark's steps of
8 us are too coarse.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import selectors
import shutil
import socket
import statistics
import sys
import time
from dataclasses import dataclass

BULK_KEY = "bulk"
SMALL_KEY = "small"
BULK_BYTES = 512 * 1024
SMALL_BYTES = 64


@dataclass(frozen=True)
class Load:
    """What clients do: `command` is "SET" (64 bytes) or "GET" (512 KiB); `pipeline` requests go out at once.

    gap_ms: 0, or the time between two requests, over all connections in turn, so that none waits for another: where
    a latency is to be seen and not a queue.
    """

    command: str
    connections: int
    pipeline: int
    requests: int
    gap_ms: float = 0.0

    @property
    def latency_counts(self) -> bool:
        """Whether the time of an answer is that of its way: nothing else is under way."""
        return self.connections == 1 and self.pipeline == 1

    @property
    def is_bulk(self) -> bool:
        """Whether it is bytes that count rather than requests."""
        return self.command == "GET"


@dataclass(frozen=True)
class Figures:
    """What one run of a load gave: requests in a second, and the median time of an answer in milliseconds."""

    rate: float
    p50_ms: float


def client_name() -> str:
    """Return which client makes the load of small requests here."""
    return "redis-benchmark" if shutil.which("redis-benchmark") else "benchmarks/load.py"


async def run(load: Load, port: int) -> Figures:
    """Put the load on a port, in a process of its own. Raises RuntimeError when the client failed."""
    counts = [str(load.connections), str(load.requests), str(load.pipeline)]
    options = [part for pair in zip(("-c", "-n", "-P"), counts, strict=True) for part in pair]
    options += ["--gap-ms", str(load.gap_ms)] if load.gap_ms else []
    program = None if load.gap_ms else shutil.which("redis-benchmark")
    if program is not None and not load.latency_counts and not load.is_bulk:
        words = ["SET", SMALL_KEY, "x" * SMALL_BYTES]
        text = await _output([program, "-p", str(port), *options, "--csv", *words])
        row = next(iter(csv.DictReader(io.StringIO(text))))
        return Figures(float(row["rps"]), float(row["p50_latency_ms"]))
    text = await _output([sys.executable, __file__, "--port", str(port), *options, "--command", load.command])
    return Figures(**json.loads(text))


async def _output(command: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode != 0 or not out:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {err.decode()[-500:]}")
    return out.decode()


class _Client:
    """One connection that sends its requests, counts the bytes of the answers and sends again."""

    def __init__(self, port: int, batch: bytes, answer_bytes: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._batch = batch
        self._answer_bytes = answer_bytes
        self._missing_bytes = 0
        self._sent_s = 0.0

    def send(self) -> None:
        """Send one batch; the answers to the one before are all here, so the buffers are empty."""
        self._missing_bytes = self._answer_bytes
        self._sent_s = time.perf_counter()
        self.socket.sendall(self._batch)

    def receive(self, buffer: bytearray) -> float | None:
        """Read once; return the seconds that the batch took when it is answered now."""
        count = self.socket.recv_into(buffer)
        if count == 0:
            raise ConnectionError("the server closed the connection")
        self._missing_bytes -= count
        return time.perf_counter() - self._sent_s if self._missing_bytes <= 0 else None


def _request(command: str) -> tuple[bytes, int]:
    """Return one request and the length of its answer."""
    if command == "GET":
        return _encoded("GET", BULK_KEY), len(f"${BULK_BYTES}\r\n") + BULK_BYTES + 2
    return _encoded("SET", SMALL_KEY, "x" * SMALL_BYTES), len("+OK\r\n")


def _encoded(*words: str) -> bytes:
    return "".join([f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]).encode()


def measure(load: Load, port: int) -> Figures:
    """Put the load on a port from this very process."""
    request, answer_bytes = _request(load.command)
    selector = selectors.DefaultSelector()
    clients = [_Client(port, request * load.pipeline, answer_bytes * load.pipeline) for _ in range(load.connections)]
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    buffer = bytearray(256 * 1024)
    batches = max(1, load.requests // load.pipeline)
    times_s: list[float] = []
    began = time.perf_counter()
    for client in clients:
        client.send()
    while len(times_s) < batches:
        for key, _ in selector.select():
            took_s = key.data.receive(buffer)
            if took_s is not None:
                times_s.append(took_s)
                key.data.send()
    return _figures(load, clients, times_s, began)


def measure_spread(load: Load, port: int) -> Figures:
    """Send one request after the other, `gap_ms` apart, each from the connection whose turn it is.

    A connection that still waits for its answer is passed over, and its turn is lost.
    """
    request, answer_bytes = _request(load.command)
    selector = selectors.DefaultSelector()
    clients = [_Client(port, request, answer_bytes) for _ in range(load.connections)]
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    buffer = bytearray(256 * 1024)
    times_s: list[float] = []
    waiting: set[_Client] = set()
    began = time.perf_counter()
    turn = 0
    while len(times_s) < load.requests:
        due_s = began + turn * load.gap_ms / 1000
        for key, _ in selector.select(max(0.0, due_s - time.perf_counter())):
            took_s = key.data.receive(buffer)
            if took_s is not None:
                times_s.append(took_s)
                waiting.discard(key.data)
        if time.perf_counter() >= due_s:
            client = clients[turn % len(clients)]
            turn += 1
            if client not in waiting:
                waiting.add(client)
                client.send()
    return _figures(load, clients, times_s, began)


def _figures(load: Load, clients: list[_Client], times_s: list[float], began: float) -> Figures:
    elapsed_s = time.perf_counter() - began
    for client in clients:
        client.socket.close()
    return Figures(len(times_s) * load.pipeline / elapsed_s, statistics.median(times_s) * 1000)


def main() -> None:
    """Run the client and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--command", choices=("SET", "GET"), default="SET")
    parser.add_argument("-c", "--connections", type=int, default=1)
    parser.add_argument("-n", "--requests", type=int, default=10_000)
    parser.add_argument("-P", "--pipeline", type=int, default=1)
    parser.add_argument("--gap-ms", type=float, default=0.0)
    options = parser.parse_args()
    load = Load(options.command, options.connections, options.pipeline, options.requests, options.gap_ms)
    figures = (measure_spread if load.gap_ms else measure)(load, options.port)
    print(json.dumps({"rate": figures.rate, "p50_ms": figures.p50_ms}))


if __name__ == "__main__":
    main()
