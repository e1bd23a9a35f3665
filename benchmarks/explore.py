"""How many different crash states are opened and judged in a second: `python benchmarks/explore.py [--seconds 20]`.

For each store, in a process of its own: states per second of opening on --jobs processes, beside the goal on two cores.
The processor time of a look says what two idle cores would do, however busy the machine is; recording the workload and
building its states is left out of it and told apart. What limits the rate is told by the parts of a look, as processor
time too: the fork with the first look of a process, writing a state out, a later look, and what a thorough one takes
more. Exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from chaos.crashpoints import session, snapshot, targets
from chaos.crashpoints.explorer import Budget
from chaos.crashpoints.promises import Promise, Teller
from chaos.crashpoints.scratch import scratch
from chaos.crashpoints.targets.base import BuiltIn

GOALS = {"sqlite": 1000.0, "kuzu": 60.0, "ladybug": 120.0}
_REPEAT = 12
_ROUNDS = 4


def parts_of(target: BuiltIn, folder: Path) -> dict[str, float]:
    """Return what the parts of a look cost at the end of a workload, in milliseconds of processor time, and how often.

    The keys say in words what each is; "first" is paid once per process, so once per `target.batch` looks.
    """
    work, state = folder / "work", folder / "state"
    for place in (work, state):
        snapshot.clear(place)
    target.preload(folder / "preload")
    target.prepare(work)
    _cpu_ms_in_child(lambda: target.work(work, Teller(work)))
    tree = snapshot.read(work)
    gc.collect()
    gc.freeze()

    def _looks(count: int, *, thorough: bool) -> None:
        gc.disable()
        for _ in range(count):
            snapshot.clear(state)
            snapshot.write(tree, state)
            target.observe(state, Promise(), thorough=thorough)

    def _writes() -> None:
        for _ in range(_REPEAT):
            snapshot.clear(state)
            snapshot.write(tree, state)

    first = _mean(lambda: _looks(1, thorough=False))
    write = _mean(_writes) / _REPEAT
    later = (_mean(lambda: _looks(_REPEAT + 1, thorough=False)) - first) / _REPEAT - write
    thorough = (_mean(lambda: _looks(_REPEAT + 1, thorough=True)) - first) / _REPEAT - write
    return {
        "writing the state out": write,
        "opening and reading": later,
        f"fork and first look, a {target.batch}th": (first - write - later) / target.batch,
        f"writing on and reading again, in one of {target.thorough_every}": (thorough - later) / target.thorough_every,
    }


def _mean(do: Callable[[], object]) -> float:
    return sum(_cpu_ms_in_child(do) for _ in range(_ROUNDS)) / _ROUNDS


def _cpu_ms_in_child(do: Callable[[], object]) -> float:
    pid = os.fork()
    if pid == 0:
        try:
            do()
        finally:
            os._exit(0)
    return _milliseconds(os.wait4(pid, 0)[2])


def _milliseconds(used: resource.struct_rusage) -> float:
    return (used.ru_utime + used.ru_stime) * 1000


def measure(store: str, seconds: float, jobs: int, out: Path) -> bool:
    """Explore one store for a while and print its figures; tell whether the goal is met."""
    options = session.Options(target=store, seed=1, jobs=jobs, out=out, budget=Budget(states=0), again=(0, 0))
    built = session.run(options, lambda _: None)
    making_ms = _milliseconds(resource.getrusage(resource.RUSAGE_CHILDREN))
    options = dataclasses.replace(options, budget=Budget(seconds=seconds))
    summary = session.run(options, lambda _: None)
    looking_ms = _milliseconds(resource.getrusage(resource.RUSAGE_CHILDREN)) - 2 * making_ms
    opened = max(1, sum(summary.looked_at.values()))
    rate, goal, cpu_ms = summary.states_per_second, GOALS.get(store, 0.0), looking_ms / opened
    made, unique = sum(built.made.values()), sum(built.unique.values())
    print(f"{store:<8} {rate:>8.1f} states/s  goal {goal:>6.0f}  {'met' if rate >= goal else 'MISSED'}")
    print(f"         {cpu_ms:.2f} ms of processor time a look, so {2000 / cpu_ms:.0f} states/s on two idle cores")
    print(
        f"         recorded, and {made} states built, {unique} different, in {making_ms / 1000:.1f} s; {opened} opened"
    )
    with scratch(out) as place:
        costs = parts_of(targets.make(store), place)
    print("         limited by")
    for part, cost in sorted(costs.items(), key=lambda item: -item[1]):
        print(f"           {cost:>6.2f} ms  {part}", flush=True)
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
