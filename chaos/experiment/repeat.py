"""The command that repeats a run, exactly: the same for the command line, the run folder and the pytest plugin."""

from __future__ import annotations

import shlex

from chaos.experiment.finding import FindingPlan
from chaos.experiment.plan import Plan
from chaos.experiment.venues import DEFAULT_BACKEND, DEFAULT_FILES, DEFAULT_PROXY


def repeat_line(
    plan: Plan | FindingPlan,
    *,
    backend: str = DEFAULT_BACKEND,
    proxy: str = DEFAULT_PROXY,
    files: str = DEFAULT_FILES,
    graph: str | None = None,
) -> str:
    """Return "chaos run PATH --seed N ...", quoted for a POSIX shell; options at their defaults are left out."""
    words = ["chaos", "run", plan.selector, "--seed", str(plan.seed)]
    if backend != DEFAULT_BACKEND:
        words += ["--backend", backend]
    if proxy != DEFAULT_PROXY:
        words += ["--proxy", proxy]
    if files != DEFAULT_FILES:
        words += ["--files", files]
    if graph is not None:
        words += ["--graph", graph]
    return shlex.join(words)
