"""What the file shim costs: `python benchmarks/shim.py`.

Paired rounds: each runs a load in every variant, in an order drawn anew, in a fresh process and folder, so that a slow
moment of the machine hits all. Figures are medians over the rounds; a ratio is the median of those within the rounds.
Loads: a SQLite commit (WAL, FULL) and a pwrite of 4 KiB, each in memory (/dev/shm) and in --disk; a server's SET with
appendfsync always. Variants: no shim; the shim with files outside its root; files in scope and no rule; eight rules of
the same calls on other files; recording. Prints the goals, met or missed. Exit code 1 with --strict when one is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from chaos.backends.redis_server import find_server
from chaos.errors import EnvironmentUnavailable
from chaos.faults.disk import library
from chaos.faults.disk.control import Control

VARIANTS = ("none", "outside", "in scope", "eight rules", "recording")

COMMITS = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1] + "/main.db", isolation_level=None)
assert db.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal"
db.execute("PRAGMA synchronous=FULL"); db.execute("CREATE TABLE t (x)")
begin = time.perf_counter()
for number in range(int(sys.argv[2])): db.execute("INSERT INTO t VALUES (?)", (number,))
print((time.perf_counter() - begin) / int(sys.argv[2]) * 1e6)
"""

WRITES = """
import os, sys, time
fd, page = os.open(sys.argv[1] + "/file", os.O_CREAT | os.O_RDWR), b"x" * 4096
begin = time.perf_counter()
for number in range(int(sys.argv[2])): os.pwrite(fd, page, number % 1000 * 4096)
print((time.perf_counter() - begin) / int(sys.argv[2]) * 1e6)
"""

GOALS = {
    ("commit, memory", "in scope"): 1.02,
    ("commit, memory", "eight rules"): 1.02,
    ("commit, disk", "in scope"): 1.02,
    ("commit, disk", "eight rules"): 1.02,
    ("pwrite, memory", "in scope"): 1.05,
    ("pwrite, memory", "eight rules"): 1.05,
    ("commit, memory", "recording"): 1.3,
}
"""The most that a load may take in a variant, as a multiple of no shim."""


def prepare(folder: Path, variant: str) -> tuple[Path, dict[str, str], Control | None]:
    """Make a folder for the load's files; return it with the victim's environment and the control file."""
    root, outside = folder / "root", folder / "outside"
    (root / "store").mkdir(parents=True)
    outside.mkdir()
    if variant == "none":
        return outside, dict(os.environ), None
    control = Control.create(folder / "control", root)
    if variant == "eight rules":
        for number in range(8):
            rule = {"action": "errno", "error": "EIO", "calls": ["write", "sync"], "path": f"other/*{number}"}
            control.arm(f"f{number}", rule)
    if variant == "recording":
        control.record(folder / "log")
    environment = {**os.environ, **library.environment(control.path)}
    return outside if variant == "outside" else root / "store", environment, control


def program(code: str, count: int, store: Path, environment: dict[str, str]) -> float:
    """Run a load and return the microseconds of one operation."""
    command = [sys.executable, "-c", code, str(store), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def server_sets(count: int, store: Path, environment: dict[str, str]) -> float:
    """Return the microseconds of one SET on a server that syncs its log always."""
    path = str(store.parent / "socket")
    command = [str(find_server().path), "--port", "0", "--unixsocket", path, "--dir", str(store), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        client = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 30
        while client.connect_ex(path) != 0 and time.monotonic() < deadline and server.poll() is None:
            pass
        client.settimeout(30)
        begin = time.perf_counter()
        for number in range(count):
            client.sendall(b"SET key %d\r\n" % number)
            client.recv(100)
        took_s = time.perf_counter() - begin
        client.close()
        server.kill()
    return took_s / count * 1e6


def measure(load: str, base: Path, count: int, variant: str) -> float:
    """Run one load in one variant in a fresh folder below `base`."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-bench-", dir=base))
    control = None
    try:
        store, environment, control = prepare(folder, variant)
        if load.startswith("SET"):
            return server_sets(count, store, environment)
        return program(COMMITS if load.startswith("commit") else WRITES, count, store, environment)
    finally:
        if control is not None:
            control.close()
        shutil.rmtree(folder)


def ratios(figures: Mapping[str, list[float]], variant: str) -> float:
    """Return the median of a variant's ratio to no shim within the rounds."""
    return statistics.median(one / plain for one, plain in zip(figures[variant], figures["none"], strict=True))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--disk", type=Path, default=Path.cwd(), help="a folder on a real disk")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the operations of each load")
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108  # the file system in memory, on purpose
    loads = {
        "commit, memory": (memory, 10_000),
        "commit, disk": (options.disk, 1_000),
        "pwrite, memory": (memory, 50_000),
        "pwrite, disk": (options.disk, 20_000),
        "SET, disk": (options.disk, 1_000),
    }
    try:
        find_server()
    except EnvironmentUnavailable as reason:
        print(f"without the server's load: {reason}")
        del loads["SET, disk"]
    missed = 0
    print(f"{'load':<16}" + "".join(f"{variant:>20}" for variant in VARIANTS))
    for load, (base, count) in loads.items():
        figures: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(options.rounds):
            for variant in random.sample(VARIANTS, len(VARIANTS)):
                figures[variant].append(measure(load, base, max(100, round(count * options.scale)), variant))
        cells = [f"{statistics.median(figures[one]):.1f} us x{ratios(figures, one):.2f}" for one in VARIANTS]
        print(f"{load:<16}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
        for (goal_load, variant), bound in GOALS.items():
            if goal_load == load:
                value = ratios(figures, variant)
                missed += value > bound
                print(f"  {variant}: {value:.2f}, goal {bound}: {'met' if value <= bound else 'MISSED'}", flush=True)
    return 1 if options.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
