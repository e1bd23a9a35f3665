"""Many proxies and many connections at once, and whether anything stays behind: `python benchmarks/proxy_scale.py`.

Each of --passes opens --connections connections at once through one proxy, uses and closes them; then it creates
--proxies proxies, sends bytes both ways through each and deletes them. Descriptors must be back where they began
after every pass, and from the second pass on memory must not grow by more than --growth KiB a pass at the median: a
leak shows in every pass, an allocator's whim in one. Prints times, and memory per proxy and per idle connection (of
the proxy process; what the kernel holds for a socket comes on top).
Exit code 1 when something leaked, 2 when descriptors do not suffice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from paths import Embedded, embedded

GONE_WITHIN_S = 20.0
SPARE_DESCRIPTORS = 200


@dataclass(frozen=True)
class Pass:
    """What one pass took: seconds, and KiB of the proxy process per proxy and per idle connection."""

    connect_s: float
    connection_kib: float
    create_s: float
    use_s: float
    delete_s: float
    proxy_kib: float
    rss_kib: int
    descriptors: int


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process that is its own (proc(5), smaps_rollup)."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(words[1]) for words in lines if words[0] in ("Private_Dirty:", "Private_Clean:"))


def descriptors(pid: int) -> int:
    """Count the open descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """Give a socket that listens on a free port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as upstream:
        yield upstream


def connect(port: int, upstream: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Connect through a proxy and return the client's socket and the upstream's."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    server, _ = upstream.accept()
    server.settimeout(10)
    return client, server


def use(client: socket.socket, server: socket.socket) -> None:
    """Send bytes both ways. Raises RuntimeError when something else arrives."""
    client.sendall(b"question")
    server.sendall(b"answer")
    arrived = server.recv(64), client.recv(64)
    if arrived != (b"question", b"answer"):
        raise RuntimeError(f"other bytes arrived: {arrived}")


async def idle(process: Embedded) -> None:
    """Wait until the process has no connection left. Raises TimeoutError."""
    async with asyncio.timeout(GONE_WITHIN_S):
        while any(state.connections or state.opening for state in (await process.proxies.state()).values()):
            await asyncio.sleep(0.01)


async def proxies_once(process: Embedded, upstream: socket.socket, count: int) -> tuple[float, float, float, float]:
    """Create, use and delete `count` proxies; return the seconds of each and the KiB per proxy."""
    pid = process.child.pid
    before_kib = rss_kib(pid)
    began_s = time.perf_counter()
    ports = [await process.proxies.add(f"p{n}", "127.0.0.1", upstream.getsockname()[1]) for n in range(count)]
    created_s = time.perf_counter()
    per_proxy_kib = (rss_kib(pid) - before_kib) / count
    for port in ports:
        client, server = connect(port, upstream)
        with client, server:
            use(client, server)
    used_s = time.perf_counter()
    for number in range(count):
        await process.proxies.remove(f"p{number}")
    return created_s - began_s, used_s - created_s, time.perf_counter() - used_s, per_proxy_kib


async def connections_once(process: Embedded, upstream: socket.socket, count: int) -> tuple[float, float]:
    """Open, use and close `count` connections; return the seconds until all were open and the KiB of an idle one."""
    port = await process.proxies.add("one", "127.0.0.1", upstream.getsockname()[1])
    before_kib = rss_kib(process.child.pid)
    began_s = time.perf_counter()
    pairs = [connect(port, upstream) for _ in range(count)]
    took_s = time.perf_counter() - began_s
    for client, server in pairs:
        use(client, server)
    state = (await process.proxies.state())["one"]
    if state.connections != count:
        raise RuntimeError(f"{state.connections} connections are open instead of {count}")
    each_kib = (rss_kib(process.child.pid) - before_kib) / count
    for client, server in pairs:
        client.close()
        server.close()
    await idle(process)
    await process.proxies.remove("one")
    return took_s, each_kib


async def measure(options: argparse.Namespace) -> tuple[int, list[Pass]]:
    """Run the passes; return the number of descriptors before the first and what each pass took."""
    passes: list[Pass] = []
    async with embedded() as process:
        await process.proxies.state()
        pid = process.child.pid
        began = descriptors(pid)
        with listening() as upstream:
            for _ in range(options.passes):
                connected = await connections_once(process, upstream, options.connections)
                times = await proxies_once(process, upstream, options.proxies)
                await idle(process)
                passes.append(Pass(*connected, *times, rss_kib(pid), descriptors(pid)))
    return began, passes


def enough_descriptors(connections: int) -> bool:
    """Raise our own limit; False when two sockets for each connection do not fit below it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard == resource.RLIM_INFINITY or hard >= 2 * connections + SPARE_DESCRIPTORS


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxies", type=int, default=1_000)
    parser.add_argument("--connections", type=int, default=2_000)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--growth", type=int, default=256, help="KiB by which memory may grow with each pass")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args()
    if not enough_descriptors(max(options.connections, options.proxies)):
        print("the limit of open files is too low (ulimit -Hn); lower --connections and --proxies", file=sys.stderr)
        return 2
    began, passes = asyncio.run(measure(options))
    growth_kib = statistics.median([later.rss_kib - one.rss_kib for one, later in pairwise(passes[1:])] or [0])
    leaks = [
        f"pass {n}: {one.descriptors} descriptors, {began} before"
        for n, one in enumerate(passes)
        if one.descriptors != began
    ]
    if growth_kib > options.growth:
        leaks.append(f"memory grew by {growth_kib:g} KiB a pass, more than {options.growth}")
    if options.json:
        print(json.dumps({"passes": [asdict(one) for one in passes], "growth_kib": growth_kib, "leaks": leaks}))
    else:
        report(options, passes, growth_kib, leaks)
    return 1 if leaks else 0


def report(options: argparse.Namespace, passes: list[Pass], growth_kib: float, leaks: list[str]) -> None:
    """Print everything for people."""
    names = ("create_s", "use_s", "delete_s", "connect_s")
    create, used, delete, connected = (statistics.median(getattr(one, name) for one in passes) for name in names)
    print(f"{options.proxies} proxies: created in {create:.2f} s, used in {used:.2f} s, deleted in {delete:.2f} s")
    print(f"{options.connections} connections through one: open in {connected:.2f} s")
    print(f"memory: {passes[0].connection_kib:.1f} KiB an idle connection, {passes[0].proxy_kib:.1f} KiB a proxy")
    print(f"after each pass: {', '.join(f'{one.rss_kib} KiB, {one.descriptors} descriptors' for one in passes)}")
    print(f"growth from the second pass on: {growth_kib:g} KiB a pass at the median")
    print("\n".join(f"LEAK: {leak}" for leak in leaks) or "nothing leaked")


if __name__ == "__main__":
    sys.exit(main())
