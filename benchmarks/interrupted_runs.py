"""Interrupt runs at random moments and look for what they leave behind: `python benchmarks/interrupted_runs.py`.

Signals come in equal parts: SIGINT, SIGTERM, SIGKILL, at moments drawn from --seed over the length of a run.
A second after the end nothing may be left: no process of the run, no listening socket, no temporary file, no
live data in the run folder; and after INT and TERM the folder must say that the run was interrupted.
Prints a line per leak, and the counts. Exit code 1 when anything leaked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MARK = "CHAOS_INTERRUPTED_RUN"
GONE_WITHIN_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
EXPERIMENT = """
from chaos import Experiment, Guards, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="interrupted",
    hypothesis="A run that is interrupted leaves nothing behind.",
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=8, clients=2, rate=40, seconds=3, deadline="800ms"),
    guards=Guards(during=0),
    schedule=(
        when.at("300ms").do(faults.Partition("redis")).heal(after="600ms"),
        when.at("1200ms").do(faults.Pause("worker")).heal(after="300ms"),
        when.at("1800ms").do(faults.Kill("redis")).heal(after="300ms"),
        when.at("2500ms").do(faults.DiskDelay("sqlite", "20ms")).heal(after="300ms"),
    ),
)
"""


def processes_of(mark: str) -> dict[int, str]:
    """Return pid and command line of every process whose environment carries `mark`."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def run_once(folder: Path, number: int, moment_s: float, signal_number: int) -> tuple[str, list[str]]:
    """Start a run, send the signal after `moment_s`, and return what kind of end it was and what was left."""
    mark = uuid.uuid4().hex
    out, temporary = folder / f"out{number}", folder / f"tmp{number}"
    temporary.mkdir()
    command = [sys.executable, "-m", "chaos", "run", str(folder / "interrupted.py"), "--out", str(out), "--seed", "1"]
    harness = subprocess.Popen(
        command,
        env={**os.environ, MARK: mark, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        harness.wait(moment_s)
        ended = "finished before the signal"
    except subprocess.TimeoutExpired:
        harness.send_signal(signal_number)
        harness.wait(30)
        ended = signal.Signals(signal_number).name
    left = _left_behind(mark, out, temporary)
    if ended == "finished before the signal" and harness.returncode != 0:
        left.append(f"ended by itself with exit code {harness.returncode}, so it proves nothing")
    expected = {128 + signal_number, -signal_number}
    if ended == "SIGINT" and not out.exists():
        expected.add(1)  # the interpreter was still starting: it answers SIGINT so before any line of ours is read
    if ended in ("SIGINT", "SIGTERM") and harness.returncode not in expected:
        left.append(f"exit code {harness.returncode} instead of {128 + signal_number}")
    if ended in ("SIGINT", "SIGTERM", "SIGKILL"):
        for manifest in out.glob("interrupted/*/run.json"):
            verdict = json.loads(manifest.read_text())["verdict"]
            if verdict not in ("interrupted", "killed", "pass"):
                left.append(f"run.json says {verdict}")
    if not left:
        shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(temporary, ignore_errors=True)
    return ended, left


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield every file; folders that somebody removes meanwhile are no error, as they are for rglob."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _left_behind(mark: str, out: Path, temporary: Path) -> list[str]:
    """Wait up to GONE_WITHIN_S for everything to be gone and return what is still there."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while True:
        left = [f"process {pid}: {command}" for pid, command in processes_of(mark).items()]
        left += [f"live data {path}" for path in out.glob("*/*/live")]
        left += [f"temporary file {path}" for path in temporary.iterdir()]
        left += [f"socket {path}" for path in _files_below(out) if path.is_socket()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def main() -> int:
    """Run the campaign and print its count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=6.0, help="latest moment of a signal, seconds")
    options = parser.parse_args()
    # A shell starts background jobs with SIGINT ignored, which children inherit; a handled signal they do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(options.seed)
    ends: Counter[str] = Counter()
    leaks = 0
    with tempfile.TemporaryDirectory(prefix="interrupted-") as name:
        folder = Path(name)
        (folder / "interrupted.py").write_text(EXPERIMENT)
        for number in range(options.runs):
            moment_s = rng.uniform(0.0, options.longest)
            ended, left = run_once(folder, number, moment_s, SIGNALS[number % len(SIGNALS)])
            ends[ended] += 1
            for item in left:
                leaks += 1
                print(f"run {number} ({ended} after {moment_s:.3f} s): {item}", flush=True)
    print(f"{options.runs} runs: " + ", ".join(f"{count} {end}" for end, count in sorted(ends.items())))
    print(f"left behind: {leaks}")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
