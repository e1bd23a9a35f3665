"""How many different crash states are opened and judged in a second: `python benchmarks/explore.py [--seconds 20]`.

For each store, in a process of its own: states per second of opening on --jobs processes, beside the goal on two cores.
The processor time of a state, making it included, says what two idle cores would do, however busy the machine is. What
limits the rate is told by the parts of one look: a fork, writing the state out, opening and reading it, and writing on,
closing and opening again. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chaos.crashpoints import session, snapshot, targets
from chaos.crashpoints.explorer import Budget
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.scratch import scratch
from chaos.crashpoints.targets.base import BuiltIn

GOALS = {"sqlite": 1000.0, "kuzu": 60.0, "ladybug": 120.0}
_REPEAT = 30


def parts_of(target: BuiltIn, folder: Path) -> dict[str, float]:
    """Return what the parts of a look cost at the end of a workload, in milliseconds of wall time."""
    work, state = folder / "work", folder / "state"
    for place in (work, state):
        snapshot.clear(place)
    target.preload(folder / "preload")
    target.prepare(work)
    _seconds_in_child(lambda: target.work(work, Teller(work)))
    tree = snapshot.read(work)
    spent = dict.fromkeys(("fork", "write out", "look", "look and write on"), 0.0)
    for _ in range(_REPEAT):
        fork_s = _seconds_in_child(lambda: None)
        began = time.perf_counter()
        snapshot.clear(state)
        snapshot.write(tree, state)
        spent["fork"] += fork_s
        spent["write out"] += time.perf_counter() - began
        spent["look"] += _seconds_in_child(lambda: target.observe(state, Promise(), thorough=False)) - fork_s
        spent["look and write on"] += (
            _seconds_in_child(lambda: target.observe(state, Promise(), thorough=True)) - fork_s
        )
    return {name: seconds / _REPEAT * 1000 for name, seconds in spent.items()}


def _seconds_in_child(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            do()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return time.perf_counter() - began


def measure(store: str, seconds: float, jobs: int, out: Path) -> bool:
    """Explore one store for a while and print its figures; tell whether the goal is met."""
    options = session.Options(target=store, seed=1, jobs=jobs, out=out, budget=Budget(seconds=seconds), again=(0, 0))
    summary = session.run(options, lambda _: None)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    opened = sum(summary.looked_at.values())
    cpu_ms = (used.ru_utime + used.ru_stime) / max(1, opened) * 1000
    rate, goal = summary.states_per_second, GOALS.get(store, 0.0)
    made, unique = sum(summary.made.values()), sum(summary.unique.values())
    verdict = "met" if rate >= goal else "MISSED"
    print(f"{store:<8} {rate:>8.1f} states/s  goal {goal:>6.0f}  {verdict}")
    print(f"         {cpu_ms:.2f} ms of processor time a state, so {2000 / cpu_ms:.0f} states/s on two idle cores")
    print(f"         {made} built, {unique} different, {opened} opened")
    with scratch(out) as place:
        costs = parts_of(targets.make(store), place)
    print("         " + ", ".join(f"{part} {cost:.1f} ms" for part, cost in costs.items()), flush=True)
    return rate >= goal


def main() -> int:
    """Measure each store in a process of its own, since two graph engines cannot be loaded into one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("stores", nargs="*", default=list(GOALS))
    given = parser.parse_args()
    if len(given.stores) == 1:
        with tempfile.TemporaryDirectory(prefix="explore-") as name:
            return 0 if measure(given.stores[0], given.seconds, given.jobs, Path(name)) else 1
    shared = ["--seconds", str(given.seconds), "--jobs", str(given.jobs)]
    codes = [
        subprocess.run([sys.executable, __file__, *shared, store], check=False).returncode for store in given.stores
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
