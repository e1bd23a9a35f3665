"""Running a workload under the shim, and making sure that the log tells all of it before anything is concluded."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from chaos._process import PARENT_VARIABLE
from chaos.crashpoints import snapshot, states
from chaos.crashpoints.bench import Recording
from chaos.crashpoints.model import Disk, LogGap
from chaos.crashpoints.promises import Promise
from chaos.crashpoints.targets.base import Target
from chaos.errors import ChaosError, EnvironmentUnavailable, HarnessError
from chaos.faults.disk import library
from chaos.faults.disk.control import Control
from chaos.faults.disk.oplog import LIED, Kind, Operation, read_log
from chaos.faults.disk.rules import Injected

WORK_LIMIT_S = 120.0
_SAID_MAX = 600
_SYNCS = (Kind.SYNC, Kind.SYNC_ALL)
_SHOWN = 3


class NoVerdict(ChaosError):
    """The recording does not carry a verdict; what was not modelled or not seen is in the message."""


def demand_shim() -> None:
    """Raise EnvironmentUnavailable where nothing can be recorded."""
    usable, reason = library.available()
    if not usable:
        what, _, remedy = reason.partition("; ")
        raise EnvironmentUnavailable(what, remedy or "explore on a system that has the file shim")


def run_recorded(
    command: Sequence[str],
    data: Path,
    folder: Path,
    *,
    limit_s: float = WORK_LIMIT_S,
    rules: Mapping[str, Mapping[str, object]] | None = None,
    fired: dict[str, int] | None = None,
    injected: list[Injected] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[list[Operation], int | None, str]:
    """Run a command that works in `data` under the shim; return its operations, status and last words.

    `folder` gets the control file, the log and the output; it must not hold them yet. The status is that of
    subprocess, None when the time was over. `rules` of the shim are armed before, and `fired` is told how often each
    acted; `injected` gets every call that a rule acted on. `environment` is added to the command's.
    Whatever the command started is killed at its end. Raises HarnessError when the shim was not in it, or lost records.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, said = folder / "log.bin", folder / "said.txt"
    with Control.create(folder / "control", data) as control:
        control.record(log)
        for name, rule in (rules or {}).items():
            control.arm(name, rule)
        variables = {**os.environ, **library.environment(control.path)}
        variables |= {PARENT_VARIABLE: str(os.getpid()), **(environment or {})}
        with said.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=variables, start_new_session=True
            )
        try:
            status: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if fired is not None:
            fired.update((name, control.fired(name)) for name in rules or {})
        if injected is not None:
            injected += control.records()
        if not control.attached:
            raise HarnessError(f"{command[0]!r} ran without the shim; a static program cannot be recorded")
        control.stop_recording()
    words = " ".join(said.read_text(errors="replace").split())[-_SAID_MAX:]
    return read_log(log), status, words


def relevant(operations: Sequence[Operation], ignored: Sequence[str]) -> list[Operation]:
    """Return the operations that matter. Raises NoVerdict when one of them is outside of the model."""
    skip = states.ignoring(ignored)
    kept = [
        operation
        for operation in operations
        if operation.kind not in (Kind.CLOSE, Kind.ATTACH, Kind.SYNC_RANGE)
        and not (operation.kind is not Kind.MARKER and operation.name and skip(operation.name))
    ]
    taints = [operation for operation in kept if operation.kind is Kind.TAINT]
    if taints:
        told = "; ".join(f"{one.name or '(no name)'}: {one.other}" for one in taints[:_SHOWN])
        raise NoVerdict(f"tainted: {len(taints)} operations are outside of the model: {told}")
    return kept


def trusted(start: snapshot.Tree, operations: Sequence[Operation], data: Path, target: Target) -> Recording:
    """Return the recording of a workload that has ended in `data`, once replaying it gives that folder byte for byte.

    Raises NoVerdict when it does not, or when the log has a gap: then something went past the shim.
    """
    skip = states.ignoring(target.ignored)
    disk = Disk(start)
    try:
        for index, operation in enumerate(operations):
            disk.apply(index, operation)
    except LogGap as error:
        raise NoVerdict(f"the recording has a gap: {error}") from error
    different = snapshot.differences(disk.now().without(skip), snapshot.read(data).without(skip))
    if different:
        shown = ", ".join(different[:_SHOWN])
        raise NoVerdict(f"replaying the recording does not give the folder: {shown} differ; something went unseen")
    return Recording(start, operations, first_promise(target))


def first_promise(target: Target) -> Promise:
    """Return what is promised when the workload begins."""
    return Promise(frozenset(target.prepared), frozenset(target.prepared))


def without_syncs(operations: Sequence[Operation]) -> list[Operation]:
    """Return the same operations, every sync taken for a lie: the control that must give findings."""
    return [replace(one, flags=one.flags | LIED) if one.kind in _SYNCS else one for one in operations]
