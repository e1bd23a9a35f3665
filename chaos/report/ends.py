"""Ends of processes that no fault of the plan explains: crashes and hangs of the system under test, or of a server."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from chaos.checkers.words import at
from chaos.history.model import Entry
from chaos.history.view import NS_PER_S, FaultInterval, History
from chaos.report.layout import heading, paragraph, table

ENDS = 20
"""How many ends are listed."""

_GRACE_S = 2.0
_PROCESSES = {"worker_exited": "worker", "worker_hung": "worker", "server_exited": "redis"}
_AIMED = ("process.", "container.")
"""The families of faults that may end the process they aim at."""

_TARGETS = {"worker": ("worker", "graph"), "redis": ("redis",)}
"""A worker owns the process of the graph, and may end with it."""


def unexplained_ends(history: History) -> Iterator[str]:
    """Yield a section that lists the ends of processes that no fault explains; nothing when there are none.

    A fault explains an end when it was open then, or had begun at most 2 s before, and aimed at that process: a
    kill or a pause of it, any fault of its container, or any disk fault, since an error of a file may end whoever
    meets it. The exit that follows a hang is that of the same process, which the harness killed; it is not listed
    again.
    """
    strange = [entry for entry in _ends(history) if not _explained(entry, history.faults)]
    if not strange:
        return
    yield from heading("Ends that no fault explains")
    lines = [(at(entry.time_ns), _PROCESSES[entry.f], _manner(entry)) for entry in strange[:ENDS]]
    yield from table(("at", "process", "end"), lines)
    if len(strange) > ENDS:
        yield from paragraph(f"and {len(strange) - ENDS} more, in history.jsonl", "  ")


def _ends(history: History) -> Iterator[Entry]:
    """Yield the ends in order, a hang and the exit after it as one."""
    hung = False
    for entry in history.entries:
        if entry.kind != "event" or entry.f not in _PROCESSES:
            continue
        if not (hung and entry.f == "worker_exited"):
            yield entry
        hung = entry.f == "worker_hung" or (hung and entry.f == "server_exited")


def _explained(entry: Entry, faults: tuple[FaultInterval, ...]) -> bool:
    return any(_aims(fault, _PROCESSES[entry.f]) and _near(fault, entry.time_ns) for fault in faults)


def _aims(fault: FaultInterval, process: str) -> bool:
    return fault.kind.startswith("disk.") or (fault.kind.startswith(_AIMED) and fault.store in _TARGETS[process])


def _near(fault: FaultInterval, time_ns: int) -> bool:
    """Tell whether the fault was open at that moment, or had begun at most _GRACE_S before."""
    if time_ns < fault.begin_ns:
        return False
    is_open = fault.lasting and (fault.end_ns is None or time_ns <= fault.end_ns)
    return is_open or time_ns - fault.begin_ns <= _GRACE_S * NS_PER_S


def _manner(entry: Entry) -> str:
    """Say how the process ended: the name of the signal, the exit status, or how long it was silent."""
    value = entry.value if isinstance(entry.value, dict) else {}
    if entry.f == "worker_hung":
        return f"hung: silent for {value.get('silent_s', '?')} s, then killed by the harness"
    status = value.get("status")
    if not isinstance(status, int):
        return "status not known"
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
