"""How file faults reach the stores of an experiment in a place: asked without starting anything but strace's probe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from chaos.errors import EnvironmentUnavailable
from chaos.experiment.venues import DEFAULT_BACKEND, DEFAULT_FILES
from chaos.faults.base import Fault
from chaos.faults.disk.mechanisms import NONE, STRACE, Mechanism, choose

Reach = Mapping[str, Mechanism]
"""The mechanism for each store, by its name."""


def reach(stores: Iterable[str], *, backend: str = DEFAULT_BACKEND, files: str = DEFAULT_FILES) -> dict[str, Mechanism]:
    """Return the mechanism for each store; `files` is what was asked for, see `venues.FILES`.

    Raises EnvironmentUnavailable when that cannot be had.
    """
    if backend != DEFAULT_BACKEND:
        ours = [store for store in stores if store != "redis"]
        return {**choose(files, ours, None), "redis": Mechanism(NONE, "its server is in a container")}
    from chaos.backends.redis_server import find_server

    server = None
    with contextlib.suppress(EnvironmentUnavailable):  # who needs a server will say that there is none
        server = find_server().path
    return choose(files, stores, server)


def means(fault: Fault, mechanisms: Reach) -> Iterator[tuple[str, Mechanism]]:
    """Yield the stores whose files a fault means, with how it would reach them; none for a fault on other things."""
    if fault.kind.startswith("disk."):
        store = getattr(fault, "store", None)
        yield from ((name, one) for name, one in mechanisms.items() if store is None or name == store)


def refusal(fault: Fault, mechanisms: Reach) -> str | None:
    """Return why a file fault cannot be done as it would reach its store; None when it can, and for other faults."""
    for store, mechanism in means(fault, mechanisms):
        if mechanism.name == STRACE and (reason := fault.refused_by(STRACE)) is not None:
            return f"{reason}; {store} is reached by {mechanism}"
    return None


def out_of_reach(faults: Iterable[Fault], mechanisms: Reach) -> tuple[list[str], str]:
    """Return the kinds of those faults that nothing can bring to their store, and why; ([], "") when there are none."""
    lost = [
        (fault.kind, mechanism.reason)
        for fault in faults
        for _, mechanism in means(fault, mechanisms)
        if mechanism.name == NONE
    ]
    return sorted({kind for kind, _ in lost}), lost[0][1] if lost else ""
