"""Fault injection for systems that keep one truth in several stores: Redis, a graph and SQLite.

Everything a user writes comes from here; see docs/tutorial. Names are loaded when they are first asked for,
so that the command line and the pytest plugin start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos._lazy import lazily

if TYPE_CHECKING:
    from chaos import checkers as checks
    from chaos import faults, stores, workload
    from chaos.experiment import probes, systems, trials, when
    from chaos.experiment.experiment import Experiment, Guards, KnownFailure, Limits, Recovery
    from chaos.experiment.finding import Finding, KnownDefect

__version__ = "0.1.0"

_HOMES = {
    "Experiment": "chaos.experiment.experiment:Experiment",
    "Finding": "chaos.experiment.finding:Finding",
    "Guards": "chaos.experiment.experiment:Guards",
    "KnownDefect": "chaos.experiment.finding:KnownDefect",
    "KnownFailure": "chaos.experiment.experiment:KnownFailure",
    "Limits": "chaos.experiment.experiment:Limits",
    "Recovery": "chaos.experiment.experiment:Recovery",
    "checks": "chaos.checkers",
    "faults": "chaos.faults",
    "probes": "chaos.experiment.probes",
    "stores": "chaos.stores",
    "systems": "chaos.experiment.systems",
    "trials": "chaos.experiment.trials",
    "when": "chaos.experiment.when",
    "workload": "chaos.workload",
}
"""Where each public name lives: a module, or "module:name"."""

__all__ = [
    "Experiment",
    "Finding",
    "Guards",
    "KnownDefect",
    "KnownFailure",
    "Limits",
    "Recovery",
    "checks",
    "faults",
    "probes",
    "stores",
    "systems",
    "trials",
    "when",
    "workload",
]


__getattr__, __dir__ = lazily(globals(), _HOMES)
