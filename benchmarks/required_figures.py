"""The figures that the specification requires: `python benchmarks/required_figures.py [--group NAME ...]`.

Prints each figure with its limit, and pass or MISSED; exit code 1 when one is missed. Users run in a closed loop, as
many as there are connections, so times hold what they wait for each other: a busy machine misses them. The machine's
own pace is told first, as the time of one fdatasync and the load. Quantiles are exact. With --baselines DIR figures are
compared with what this kind of machine measured before, once there are five runs; --keep adds them.

A new group is a module in `benchmarks/figures/` with an async function that takes `Options` and returns `Figure`s, and
one line in GROUPS.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures import cache, graph, memory, redis, sqlite
from figures.model import Figure, Group, Options

from chaos.errors import ChaosError
from chaos.metrics.baseline import Baselines

GROUPS: dict[str, Group] = {
    "sqlite": sqlite.measure,
    "redis": redis.measure,
    "graph-kuzu": graph.measurer("kuzu"),
    "graph-ladybug": graph.measurer("ladybug"),
    "cache-kuzu": cache.measurer("kuzu"),
    "cache-ladybug": cache.measurer("ladybug"),
    "memory-kuzu": memory.measurer("kuzu"),
    "memory-ladybug": memory.measurer("ladybug"),
}


async def run_group(name: str, seconds: float) -> list[Figure]:
    """Measure one group in a folder of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix="chaos-figures-") as folder:
        return await GROUPS[name](Options(folder=Path(folder), seconds=seconds))


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
    return f"  {figure.name:<58} {figure.value:>10.2f} {figure.unit:<5} {limit:>9}  {verdict}"


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description="the figures that the specification requires")
    parser.add_argument("--group", nargs="+", choices=sorted(GROUPS), default=list(GROUPS))
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each load")
    parser.add_argument("--baselines", type=Path, help="folder of earlier figures")
    parser.add_argument("--keep", action="store_true", help="add these figures to the baselines")
    options = parser.parse_args()
    baselines = Baselines(options.baselines) if options.baselines else None
    print(pace())
    missed = 0
    measured: dict[str, list[float]] = {}
    for name in options.group:
        print(name, flush=True)
        try:
            figures = asyncio.run(run_group(name, options.seconds))
        except (ChaosError, ExceptionGroup) as error:
            print(f"  could not be measured: {error!r:.300}  MISSED", flush=True)
            missed += 1
            continue
        for figure in figures:
            print(told(figure), flush=True)
            missed += not figure.passed
            key = f"{name}: {figure.name}"
            measured[key] = [figure.cost]
            compared = baselines.compare(key, [figure.cost]) if baselines else None
            if compared is not None and compared.verdict != "too few":
                print(f"    {compared.sentence('against earlier runs')}")
    if baselines is not None and options.keep:
        baselines.keep(measured)
    print(f"{missed} missed" if missed else "all pass")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
