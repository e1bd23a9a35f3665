"""The figures that the specification requires: `python benchmarks/required_figures.py [--group NAME ...]`.

Prints each figure with its limit, and pass or MISSED; exit code 1 when one is missed. Groups of the coordinated system
are measured without a fault and with the one that threatens the figure. Users run in a closed loop, as many as there
are connections, unless a group says otherwise, so times hold what they wait for each other: a busy machine misses them.
The machine's own pace is told first and last, as the time of one fdatasync and the load; what was measured beside a
load of others is provisional. Quantiles are exact. With --baselines DIR figures are compared with what this kind of
machine measured before, once there are five runs; --keep adds them.

All groups on both engines take about 45 minutes, 24 of them the ten minutes of memory that are required, on each engine
(--minutes 1 makes that 3).

A new group is a module in `benchmarks/figures/` with an async function that takes `Options` and returns `Figure`s, and
one line in GROUPS, or in ONCE if no graph is involved.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures import cache, coordinated, graph, memory, recovery, redis, registration, sqlite
from figures.model import Figure, Group, Options

from chaos.errors import ChaosError
from chaos.metrics.baseline import Baselines

ENGINES = ("kuzu", "ladybug")
ONCE: dict[str, Group] = {"sqlite": sqlite.measure, "redis": redis.measure}
GROUPS: dict[str, Group] = {
    **ONCE,
    "graph": graph.measure,
    "cache": cache.measure,
    "transactions": coordinated.latency,
    "success": coordinated.success,
    "registration": registration.measure,
    "recovery": recovery.measure,
    "memory": memory.measure,
}


def chosen(groups: Sequence[str], engines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield title, group and engine of everything that is to be measured; once for groups without a graph."""
    for name in groups:
        for engine in engines[:1] if name in ONCE else engines:
            yield name if name in ONCE else f"{name}-{engine}", name, engine


async def run_group(name: str, options: Options) -> list[Figure]:
    """Measure one group in a folder of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix="chaos-figures-") as folder:
        return await GROUPS[name](replace(options, folder=Path(folder)))


def pace() -> str:
    """Say how busy the machine is, and how long its disk takes: figures of a busy one say little."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            began_s = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began_s) * 1000)
    load = os.getloadavg()[0]
    times.sort()
    return f"{os.cpu_count()} cores, load {load:.1f}; fdatasync p50 {times[25]:.2f} ms, max {times[-1]:.2f} ms"


def told(figure: Figure) -> str:
    """Return the line of one figure."""
    sign = "<=" if figure.at_most else ">="
    verdict = "pass" if figure.passed else "MISSED"
    limit = f"{sign} {figure.limit:g}"
    return f"  {figure.name:<66} {figure.value:>10.2f} {figure.unit:<5} {limit:>9}  {verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", nargs="+", choices=sorted(GROUPS), default=list(GROUPS))
    parser.add_argument("--graph", nargs="+", choices=ENGINES, default=list(ENGINES), help="engines; both by default")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the sustained load of memory")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each experiment of recovery")
    parser.add_argument("--baselines", type=Path, help="folder of earlier figures")
    parser.add_argument("--keep", action="store_true", help="add these figures to the baselines")
    options = parser.parse_args(arguments)
    baselines = Baselines(options.baselines) if options.baselines else None
    print(pace(), flush=True)
    missed = 0
    measured: dict[str, list[float]] = {}
    for title, name, engine in chosen(options.group, options.graph):
        print(title, flush=True)
        began_s = time.monotonic()
        asked = Options(Path(), options.seconds, engine, options.minutes, options.seeds)
        try:
            figures = asyncio.run(run_group(name, asked))
        except (ChaosError, ExceptionGroup) as error:
            print(f"  could not be measured: {error!r:.300}  MISSED", flush=True)
            missed += 1
            continue
        for figure in figures:
            print(told(figure), flush=True)
            missed += not figure.passed
            key = f"{title}: {figure.name}"
            measured[key] = [figure.cost]
            compared = baselines.compare(key, [figure.cost]) if baselines else None
            if compared is not None and compared.verdict != "too few":
                print(f"    {compared.sentence('against earlier runs')}")
        print(f"  ({time.monotonic() - began_s:.0f} s, load {os.getloadavg()[0]:.1f})", flush=True)
    if baselines is not None and options.keep:
        baselines.keep(measured)
    print(pace())
    print(f"{missed} missed" if missed else "all pass")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
