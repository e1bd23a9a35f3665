"""Kill the harness while five faults hold, and measure how long anything stays: `python benchmarks/killed_harness.py`.

Each run gets SIGKILL at a moment drawn from --seed after the fifth fault is in. Healed or gone means: no process of
the run, the guardian included; no live data in its folder, and a run.json that says that it was killed; no container,
network or volume. Prints the times, and a line for each run in which something was left after --within seconds.
Exit code 1 when there was one. With docker the images are those that CHAOS_REDIS_IMAGE and CHAOS_TOXIPROXY_IMAGE name.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from chaos.backends.docker import sweep

MARK = "CHAOS_KILLED_HARNESS"
FAULTS = 5
START_S = 60.0
LOOK_S = 0.01
LOOK_AT_DAEMON_S = 0.05
"""A daemon that is asked more often removes more slowly."""

GIVE_UP_S = 15.0
KINDS = ("container", "network", "volume")
SCHEDULES = {
    "embedded": ('Latency("redis", "20ms")', 'Partition("redis", side="reply")', 'DiskDelay("sqlite", "5ms")'),
    "docker": ('Latency("redis", "20ms")', 'Partition("redis", side="reply")', 'NetworkDisconnect("redis")'),
}
EXPERIMENT = """
from chaos import Experiment, Guards, faults, stores, when, workload

EXPERIMENT = Experiment(
    id="killed",
    hypothesis="A harness that is killed leaves nothing behind.",
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=8, clients=2, rate=40, seconds=30, deadline="800ms"),
    guards=Guards(during=0),
    schedule=(
{schedule}
    ),
)
"""


@dataclass(frozen=True)
class Killed:
    """How one run ended: the seconds until nothing was left, and what was left when the time was over."""

    seconds: float
    left: list[str]


def write_experiment(path: Path, backend: str) -> None:
    """Write an experiment in which five faults begin one after the other and hold: three of its own, two pauses."""
    faults = (*SCHEDULES[backend], 'Pause("redis")', 'Pause("worker")')
    lines = [f'        when.at("{100 * (1 + index)}ms").do(faults.{fault}),' for index, fault in enumerate(faults)]
    path.write_text(EXPERIMENT.format(schedule="\n".join(lines)))


def run_once(folder: Path, options: argparse.Namespace, delay_s: float) -> Killed:
    """Start a run, wait until all faults are in, kill the harness `delay_s` later, and see what is left."""
    mark, out = uuid.uuid4().hex, folder / "out"
    command = [sys.executable, "-m", "chaos", "run", str(folder / "killed.py"), "--out", str(out), "--seed", "1"]
    command += ["--backend", options.backend, "--proxy", options.proxy]
    with (folder / "log").open("wb") as log:
        harness = subprocess.Popen(
            command, env={**os.environ, MARK: mark}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        run = _wait_for_faults(out, harness, folder / "log")
        time.sleep(delay_s)
    finally:
        harness.kill()
        killed_s = time.monotonic()
    left = _left_behind(mark, run, options.backend)
    while left and time.monotonic() - killed_s < GIVE_UP_S:
        time.sleep(LOOK_AT_DAEMON_S if options.backend == "docker" else LOOK_S)
        harness.poll()
        left = _left_behind(mark, run, options.backend)
    seconds = time.monotonic() - killed_s
    harness.wait()
    shutil.rmtree(out, ignore_errors=True)
    return Killed(seconds, left)


def _wait_for_faults(out: Path, harness: subprocess.Popen[bytes], log: Path) -> Path:
    """Return the run's folder once every fault was applied. Raises RuntimeError when that does not come about."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and harness.poll() is None:
        for ledger in out.glob("killed/*/faults.jsonl"):
            lines = [json.loads(line) for line in ledger.read_text().splitlines() if line.endswith("}")]
            applied = [line for line in lines if line["state"] == "applied"]
            failed = [line for line in applied if line["error"]]
            if failed:
                raise RuntimeError(f"a fault could not be injected, so the run proves nothing: {failed}")
            if len(applied) == FAULTS:
                return ledger.parent
        time.sleep(LOOK_S)
    raise RuntimeError(f"the faults were not in after {START_S:g} s (exit code {harness.poll()}): {log.read_text()}")


def _left_behind(mark: str, run: Path, backend: str) -> list[str]:
    """Return what is still there of a run."""
    left = [f"process {pid}: {command}" for pid, command in _processes_of(mark).items()]
    left += [f"live data {run / 'live'}"] if (run / "live").exists() else []
    verdict = json.loads((run / "run.json").read_text())["verdict"]
    left += [] if verdict == "killed" else [f"run.json says {verdict}"]
    if backend == "docker" and not left:
        daemon = sweep.Daemon()
        for kind in KINDS:
            left += [f"{kind} {one.get('Id') or one['Name']}" for one in daemon.labelled(kind, f"chaos.run={run}")]
    return left


def _processes_of(mark: str) -> dict[int, str]:
    """Return pid and command line of every living process whose environment carries the mark."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0") and sweep.start_time(int(entry.name)):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def main() -> int:
    """Kill as often as asked for and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=1.0, help="seconds after which nothing may be left")
    parser.add_argument("--backend", choices=tuple(SCHEDULES), default="embedded")
    parser.add_argument("--proxy", choices=("embedded", "toxiproxy"), default="embedded")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    times: list[float] = []
    late = 0
    with tempfile.TemporaryDirectory(prefix="killed-") as name:
        write_experiment(Path(name) / "killed.py", options.backend)
        for number in range(options.runs):
            ended = run_once(Path(name), options, rng.uniform(0.0, 0.3))
            times.append(ended.seconds)
            if ended.seconds > options.within:
                late += 1
                what = "; ".join(ended.left) or "nothing was left in the end"
                print(f"run {number}: {ended.seconds:.3f} s: {what}", flush=True)
    print(
        f"{options.backend}, proxy {options.proxy}: {options.runs} runs, all gone within {options.within:g} s in "
        f"{options.runs - late}; least {min(times):.3f} s, median {statistics.median(times):.3f} s, "
        f"most {max(times):.3f} s"
    )
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
