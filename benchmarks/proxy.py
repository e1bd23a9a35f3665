"""What a proxy costs: direct, through Toxiproxy and through ours, in turn: `python benchmarks/proxy.py`.

Rounds are short and many, and each runs every load on all paths one after the other, so that a slow moment of the
machine hits all three; figures are medians over the rounds, and ratios are those of medians. Loads: SET of 64 bytes
and GET of 512 KiB, over 1 and 50 connections, with pipelines of 1 and 16. Then a latency of 20 ms on requests, 50
connections whose requests are 1 ms apart. Latency counts where it is not queueing: one connection, no pipeline.
Prints medians and the goals, met or missed and by how much. Exit code 1 with --strict when a goal is missed.
Needs toxiproxy-server (CHAOS_TOXIPROXY or PATH); without it the comparisons are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace

from load import BULK_BYTES, BULK_KEY, Figures, Load, client_name, run
from paths import embedded, server, toxiproxy

from chaos.backends.toxiproxy import Toxiproxy
from chaos.backends.toxiproxy_server import find_toxiproxy
from chaos.errors import EnvironmentUnavailable

LATENCY_MS = 20
LATENCY_TOLERANCE_MS = 1.5
ADDED_RATIO_MAX = 0.8
BULK_RATIO_MIN = 1.5
SMALL_RATIO_MIN = 1.0
LOADS = (
    Load("SET", 1, 1, 4_000),
    Load("SET", 1, 16, 64_000),
    Load("SET", 50, 1, 12_000),
    Load("SET", 50, 16, 160_000),
    Load("GET", 1, 1, 1_000),
    Load("GET", 1, 16, 1_000),
    Load("GET", 50, 1, 1_000),
    Load("GET", 50, 16, 1_600),
)
DELAYED = Load("SET", 50, 1, 1_000, gap_ms=1.0)

Cell = tuple[Load, str]
"""A load and the path that it took."""


@dataclass(frozen=True)
class Goal:
    """One figure beside its bound; `low` says that the bound is a least value.

    `without` is what the same figure would be without any proxy of ours, where that makes sense.
    """

    text: str
    value: float
    bound: float
    low: bool
    without: float | None = None

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side of its bound."""
        return self.value >= self.bound if self.low else self.value <= self.bound

    def verdict(self) -> str:
        """Return "met", or how far it falls short."""
        if self.met:
            return "met"
        direct = f"; direct: {self.without:.2f}" if self.without is not None else ""
        return f"MISSED by {abs(self.value / self.bound - 1):.0%}{direct}"


def title(load: Load) -> str:
    """Name a load."""
    size = "64 B" if load.command == "SET" else "512 KiB"
    return f"{load.command} {size}, {load.connections:>2} connections, pipeline {load.pipeline}"


def goals(rounds: Mapping[Cell, list[Figures]]) -> list[Goal]:
    """Judge the rounds; empty without Toxiproxy."""
    found = []
    for load in [load for load, path in rounds if path == "toxiproxy"]:
        direct, other, ours = (rounds[load, path] for path in ("direct", "toxiproxy", "embedded"))
        if load.latency_counts:
            added = _added_ratio(direct, other, ours)
            found.append(Goal(f"{title(load)}: median added / Toxiproxy's", added, ADDED_RATIO_MAX, low=False))
        if load.is_bulk or load.connections > 1:
            bound = BULK_RATIO_MIN if load.is_bulk else SMALL_RATIO_MIN
            rate, most = _rate_ratio(ours, other), _rate_ratio(direct, other)
            found.append(Goal(f"{title(load)}: rate / Toxiproxy's", rate, bound, low=True, without=most))
    return found


def _rate(figures: list[Figures]) -> float:
    return statistics.median(one.rate for one in figures)


def _p50_ms(figures: list[Figures]) -> float:
    return statistics.median(one.p50_ms for one in figures)


def _rate_ratio(some: list[Figures], other: list[Figures]) -> float:
    return _rate(some) / _rate(other)


def _added_ratio(direct: list[Figures], other: list[Figures], ours: list[Figures]) -> float:
    """Return what ours adds to the median latency, as a share of what the other adds."""
    return (_p50_ms(ours) - _p50_ms(direct)) / max(_p50_ms(other) - _p50_ms(direct), 0.001)


def print_table(rounds: Mapping[Cell, list[Figures]]) -> None:
    """Print the median rate and the median of the median latencies of every load and path."""
    loads = dict.fromkeys(load for load, _ in rounds)
    paths = dict.fromkeys(path for _, path in rounds)
    print(f"{'load':<42}" + "".join(f"{path:>24}" for path in paths))
    for load in loads:
        line = f"{title(load):<42}"
        for path in paths:
            rate = _rate(rounds[load, path])
            amount = f"{rate * BULK_BYTES / 1e6:,.0f} MB/s" if load.is_bulk else f"{rate:,.0f}/s"
            line += f"{amount:>13} {_p50_ms(rounds[load, path]):>7.3f} ms"
        print(line)


async def measure(options: argparse.Namespace, loads: list[Load]) -> tuple[dict[Cell, list[Figures]], dict[str, float]]:
    """Run the rounds; return the figures of each cell, and the median in ms that each proxy's latency fault gave."""
    rounds: dict[Cell, list[Figures]] = {}
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(server({BULK_KEY: bytes(BULK_BYTES)}))
        paths = {"direct": upstream}
        other: Toxiproxy | None = None
        try:
            other = await stack.enter_async_context(toxiproxy(find_toxiproxy()))
        except EnvironmentUnavailable as error:
            print(f"without Toxiproxy: {error}", file=sys.stderr)
        else:
            paths["toxiproxy"] = (await other.create("redis", "127.0.0.1:0", f"127.0.0.1:{upstream}")).port
        ours = (await stack.enter_async_context(embedded())).proxies
        paths["embedded"] = await ours.add("redis", "127.0.0.1", upstream)
        for number in range(options.rounds):
            for load in loads:
                for path, port in paths.items():
                    rounds.setdefault((load, path), []).append(await run(load, port))
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
        if other is not None:
            await other.add_toxic("redis", "latency", "latency", "upstream", 1.0, {"latency": LATENCY_MS})
        await ours.lever("redis").inject(
            "latency", "network.latency", {"delay_s": LATENCY_MS / 1000, "side": "request"}
        )
        delayed: dict[str, list[Figures]] = {path: [] for path in paths if path != "direct"}
        for _ in range(options.rounds):
            for path, figures in delayed.items():
                figures.append(await run(DELAYED, paths[path]))
    return rounds, {path: _p50_ms(figures) for path, figures in delayed.items()}


def report(rounds: Mapping[Cell, list[Figures]], felt_ms: Mapping[str, float], judged: list[Goal]) -> None:
    """Print everything for people."""
    print_table(rounds)
    print(f"\nmedian with a latency of {LATENCY_MS} ms on requests, 50 connections:")
    for path, value_ms in felt_ms.items():
        print(f"  {path:<12} {value_ms:.2f} ms")
    print()
    for goal in judged:
        bound = f"{'at least' if goal.low else 'at most'} {goal.bound:g}"
        print(f"{goal.text:<62} {goal.value:>6.2f}  ({bound}) {goal.verdict()}")


def as_json(rounds: Mapping[Cell, list[Figures]], felt_ms: Mapping[str, float], judged: list[Goal]) -> str:
    """Return everything for programs; a cell's figures are in the order of the rounds."""
    cells = [
        {**asdict(load), "path": path, "rounds": [asdict(one) for one in figures]}
        for (load, path), figures in rounds.items()
    ]
    verdicts = [{**asdict(goal), "met": goal.met} for goal in judged]
    return json.dumps({"client": client_name(), "cells": cells, "latency_p50_ms": dict(felt_ms), "goals": verdicts})


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of requests")
    parser.add_argument("--only", default="", help="run only the loads whose name contains this")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    options = parser.parse_args()
    loads = [
        replace(load, requests=max(load.connections * load.pipeline, int(load.requests * options.scale)))
        for load in LOADS
        if options.only in title(load)
    ]
    rounds, felt_ms = asyncio.run(measure(options, loads))
    judged = goals(rounds)
    off_ms = abs(felt_ms["embedded"] - LATENCY_MS)
    what = f"latency of {LATENCY_MS} ms, 50 connections: ms off at the median"
    judged.append(Goal(what, off_ms, LATENCY_TOLERANCE_MS, low=False))
    if options.json:
        print(as_json(rounds, felt_ms, judged))
    else:
        print(f"small requests made by {client_name()}")
        report(rounds, felt_ms, judged)
    return 1 if options.strict and not all(goal.met for goal in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
