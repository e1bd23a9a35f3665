"""The command that repeats a run, exactly: the same for the command line, the run folder and the pytest plugin."""

from __future__ import annotations

import shlex

from chaos.experiment.plan import Plan

DEFAULT_BACKEND = "embedded"


def repeat_line(plan: Plan, *, backend: str = DEFAULT_BACKEND, graph: str | None = None) -> str:
    """Return "chaos run PATH --seed N ...", quoted for a POSIX shell; options at their defaults are left out."""
    words = ["chaos", "run", plan.selector, "--seed", str(plan.seed)]
    if backend != DEFAULT_BACKEND:
        words += ["--backend", backend]
    if graph is not None:
        words += ["--graph", graph]
    return shlex.join(words)
