"""What an experiment needs of the machine it would run on, asked without starting anything."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial

from chaos.errors import EnvironmentUnavailable
from chaos.experiment.experiment import Experiment
from chaos.experiment.finding import Finding
from chaos.experiment.reach import out_of_reach, reach, refusal
from chaos.experiment.subjects import version_of
from chaos.experiment.venues import DEFAULT_BACKEND, DEFAULT_FILES, DEFAULT_PROXY
from chaos.faults.base import Fault

ENGINE_PACKAGES = {"kuzu": "pip install kuzu", "ladybug": "pip install 'chaos-harness[ladybug]'"}
"""Graph engines by module name, each with the way to get it."""

_REQUIREMENTS = {"server": "redis"}
"""Subjects of findings whose requirement has another name."""

Look = tuple[str, Callable[[], object]]
"""The name of a requirement, and what raises EnvironmentUnavailable when it is not here."""


def demand(
    experiment: Experiment | Finding,
    *,
    backend: str = DEFAULT_BACKEND,
    proxy: str = DEFAULT_PROXY,
    files: str = DEFAULT_FILES,
    graph: str | None = None,
) -> None:
    """Raise EnvironmentUnavailable, with its name and the remedy, for the first thing that is not here.

    Looks for the backend, the Redis-compatible server, the graph engine (`graph` instead of the experiment's
    own when given), and what brings file faults to the stores if there are any. What is here may still fail to start.
    A finding needs its subject, and the shim when its trial does.
    """
    if isinstance(experiment, Finding):
        _demand_all(_of_finding(experiment))
        return
    engine = graph or next(store.engine for store in experiment.stores if store.name == "graph")
    on_files = [fault for rule in experiment.schedule for fault in rule.faults if fault.kind.startswith("disk.")]
    looks: list[Look] = [*_servers(backend, proxy), (engine, partial(_demand_engine, engine))]
    if on_files:
        names = tuple(store.name for store in experiment.stores)
        looks.append(("shim", partial(_demand_reach, on_files, names, backend, files)))
    _demand_all(looks)


def _of_finding(finding: Finding) -> list[Look]:
    looks: list[Look] = [(_REQUIREMENTS.get(finding.subject, finding.subject), partial(version_of, finding.subject))]
    if finding.trial.needs_shim:
        looks.append(("shim", partial(_demand_shim, finding.trial.kind)))
    return looks


def _demand_all(looks: Sequence[Look]) -> None:
    for requirement, look in looks:
        try:
            look()
        except EnvironmentUnavailable as error:
            error.requirement = requirement
            raise


def _servers(backend: str, proxy: str) -> list[Look]:
    """Return what must be here to start the servers, by name, each with a look that raises when it is not."""
    if backend != DEFAULT_BACKEND:
        from chaos.backends.docker.client import demand_daemon
        from chaos.backends.docker.compose import demand_stack

        return [("docker", demand_daemon), *([("compose", demand_stack)] if backend == "compose" else [])]
    from chaos.backends.redis_server import find_server
    from chaos.backends.toxiproxy_server import find_toxiproxy

    return [("redis", find_server), *([("toxiproxy", find_toxiproxy)] if proxy != DEFAULT_PROXY else [])]


def _demand_engine(engine: str) -> None:
    if importlib.util.find_spec(engine) is None:
        raise EnvironmentUnavailable(f"graph engine {engine} is not installed", ENGINE_PACKAGES[engine])


def _demand_reach(faults: Sequence[Fault], stores: Sequence[str], backend: str, files: str) -> None:
    by = reach(stores, backend=backend, files=files)
    kinds, reason = out_of_reach(faults, by)
    if kinds:
        raise EnvironmentUnavailable(f"{', '.join(kinds)} cannot reach the stores: {reason}", "see `chaos doctor`")
    for fault in faults:
        if (refused := refusal(fault, by)) is not None:
            raise EnvironmentUnavailable(f"{fault.kind} needs the file shim: {refused}", "see `chaos doctor`")


def _demand_shim(trial: str) -> None:
    from chaos.faults.disk import library

    available, reason = library.available()
    if not available:
        raise EnvironmentUnavailable(f"the trial {trial} needs the file shim: {reason}", "see `chaos doctor`")
