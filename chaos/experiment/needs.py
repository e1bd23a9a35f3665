"""What an experiment needs of the machine it would run on, asked without starting anything."""

from __future__ import annotations

import importlib.util

from chaos.errors import EnvironmentUnavailable
from chaos.experiment.experiment import Experiment
from chaos.experiment.repeat import DEFAULT_BACKEND

ENGINE_PACKAGES = {"kuzu": "pip install kuzu", "ladybug": "pip install 'chaos-harness[ladybug]'"}
"""Graph engines by module name, each with the way to get it."""


def demand(experiment: Experiment, *, backend: str = DEFAULT_BACKEND, graph: str | None = None) -> None:
    """Raise EnvironmentUnavailable, with the remedy, for the first thing that is not here.

    Looks for the backend, the Redis-compatible server, the graph engine (`graph` instead of the experiment's
    own when given), and the file shim if a fault needs it. What is here may still fail to start.
    """
    if backend != DEFAULT_BACKEND:
        raise EnvironmentUnavailable(f"backend={backend} is not part of this version", f"use {DEFAULT_BACKEND}")
    from chaos.backends.redis_server import find_server

    find_server()
    engine = graph or next(store.engine for store in experiment.stores if store.name == "graph")
    if importlib.util.find_spec(engine) is None:
        raise EnvironmentUnavailable(f"graph engine {engine} is not installed", ENGINE_PACKAGES[engine])
    kinds = {fault.kind for rule in experiment.schedule for fault in rule.faults}
    on_files = sorted(kind for kind in kinds if kind.startswith("disk."))
    if on_files:
        from chaos.faults.disk import library

        available, reason = library.available()
        if not available:
            raise EnvironmentUnavailable(f"{', '.join(on_files)} need the file shim: {reason}", "see `chaos doctor`")
