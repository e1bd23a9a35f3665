"""What an experiment needs of the machine it would run on, asked without starting anything."""

from __future__ import annotations

import importlib.util

from chaos.errors import EnvironmentUnavailable
from chaos.experiment.experiment import Experiment
from chaos.experiment.venues import DEFAULT_BACKEND, DEFAULT_PROXY

ENGINE_PACKAGES = {"kuzu": "pip install kuzu", "ladybug": "pip install 'chaos-harness[ladybug]'"}
"""Graph engines by module name, each with the way to get it."""


def demand(
    experiment: Experiment,
    *,
    backend: str = DEFAULT_BACKEND,
    proxy: str = DEFAULT_PROXY,
    graph: str | None = None,
) -> None:
    """Raise EnvironmentUnavailable, with the remedy, for the first thing that is not here.

    Looks for the backend, the Redis-compatible server, the graph engine (`graph` instead of the experiment's
    own when given), and the file shim if a fault needs it. What is here may still fail to start.
    """
    _demand_servers(backend, proxy)
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


def _demand_servers(backend: str, proxy: str) -> None:
    """Raise for a daemon that does not answer, or a server program that is not here."""
    if backend != DEFAULT_BACKEND:
        from chaos.backends.docker.client import demand_daemon

        demand_daemon()
        return
    from chaos.backends.redis_server import find_server

    find_server()
    if proxy != DEFAULT_PROXY:
        from chaos.backends.toxiproxy_server import find_toxiproxy

        find_toxiproxy()
