"""Whole-process times of `chaos --help` and of a trivial experiment: `python benchmarks/startup.py [--repeat 7]`.

Prints for each figure the median, minimum and maximum beside its limit. Exit code 1 when a median exceeds it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRIVIAL = """
from chaos import Experiment, Recovery, stores, workload

EXPERIMENT = Experiment(
    id="trivial",
    hypothesis="Without any fault, one second of load passes.",
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(accounts=8, clients=2, rate=40, seconds=1, deadline="1s"),
    recovery=Recovery(budget="10s", hold="300ms"),
)
"""


def seconds_of(command: list[str]) -> float:
    """Run a command to its end and return its wall time; its failure ends the benchmark."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    """Measure both figures in alternation, so that a slow moment of the machine hits both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    program = str(Path(sys.executable).with_name("chaos"))
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        experiment = Path(name) / "trivial.py"
        experiment.write_text(TRIVIAL)
        figures = {
            "chaos --help": ([program, "--help"], 0.25),
            "trivial experiment": ([program, "run", str(experiment), "--seed", "0", "--out", f"{name}/runs"], 4.0),
        }
        times: dict[str, list[float]] = {figure: [] for figure in figures}
        for _ in range(options.repeat):
            for figure, (command, _limit) in figures.items():
                times[figure].append(seconds_of(command))
    missed = 0
    print(f"{'figure':<20} {'median':>8} {'min':>8} {'max':>8} {'limit':>8}")
    for figure, (_, limit_s) in figures.items():
        middle = statistics.median(times[figure])
        missed += middle > limit_s
        verdict = "met" if middle <= limit_s else "MISSED"
        low, high = min(times[figure]), max(times[figure])
        print(f"{figure:<20} {middle:>7.3f}s {low:>7.3f}s {high:>7.3f}s {limit_s:>7.2f}s {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
