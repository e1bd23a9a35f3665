"""Registration, the workflow over all stores: 1,000 ms at p99; completed and never torn, with faults or without."""

from __future__ import annotations

from .model import Figure, Options
from .production import CLIENTS, outages, registrations, slow
from .runs import Seen, completed, during_faults, kept, p99, seen

LIMIT_MS = 1000.0


async def measure(options: Options) -> list[Figure]:
    """Measure without a fault, with slow stores, and with failures of each process and of the network."""
    seconds = max(15.0, options.seconds)
    calm = await seen(options, "calm", registrations(options.seconds))
    late = await seen(options, "slow", registrations(options.seconds + 2), slow(options.seconds + 2))
    hurt = await seen(options, "outages", registrations(seconds), outages(seconds))
    met = list(during_faults(hurt))
    done = sum(completed(hurt, operation) for operation in met)
    runs = (calm, late, hurt)
    return [
        p99(f"registration, {CLIENTS} clients, no fault", calm.sent, LIMIT_MS),
        p99("registration, Redis +20 ms, syncs +20 ms", late.sent, LIMIT_MS),
        Figure(f"completed of {len(calm.sent)}, no fault", _completed(calm), 100, "%", at_most=False),
        Figure(f"completed of {len(met)} begun during faults", 100 * done / max(1, len(met)), 80, "%", at_most=False),
        Figure("torn", sum(_torn(run) for run in runs), 0, ""),
        kept("all three", runs),
    ]


def _completed(run: Seen) -> float:
    return 100 * sum(completed(run, operation) for operation in run.sent) / max(1, len(run.sent))


def _torn(run: Seen) -> int:
    counts = run.details["atomic"]["counts"]
    return int(counts["torn"]) + int(counts["altered"])
