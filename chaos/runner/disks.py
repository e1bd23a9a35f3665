"""Which lever reaches the file calls of each store of a run: the shim's control file, or strace on its processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from chaos._process import Child
from chaos.backends.environment import Environment
from chaos.errors import EnvironmentUnavailable
from chaos.experiment.reach import Reach
from chaos.faults.base import STRUCK, DiskLever, Evidence
from chaos.faults.disk.control import Control, StoreDisk
from chaos.faults.disk.mechanisms import PRELOAD, STRACE
from chaos.faults.disk.strace import StraceDisk
from chaos.runner.folder import RunFolder
from chaos.runner.guardian import RUN_MARK, processes_with
from chaos.runner.supervisor import Supervisor


class _ClockedDisk(StoreDisk):
    """Tells also when a rule acted last, as the shim recorded it before the call returned."""

    async def disarm(self, fault_id: str) -> Evidence:
        """Disarm it and return its counters with the time of its last blow; {} when it is not armed."""
        evidence = await super().disarm(fault_id)
        struck = [record.time_ns for record in self._control.records() if record.rule_id == fault_id]
        return {**evidence, STRUCK: max(struck)} if evidence and struck else evidence


class Disks:
    """The `DiskLever` of each store, by the mechanism that was chosen for it."""

    def __init__(
        self,
        mechanisms: Reach,
        folder: RunFolder,
        control: Control | None,
        variables: Mapping[str, str],
        on_child: Callable[[Child], None],
    ) -> None:
        """`control` is that of the shim, None when none is loaded; `variables` mark what is started for this run.

        `on_child` hears of each strace.
        """
        self._mechanisms = mechanisms
        self._control = control
        self._folder = folder
        self._environment: Environment | None = None
        self._supervisor: Supervisor | None = None
        self._traced = {
            store: StraceDisk(
                folder.data / store,
                folder.logs,
                lambda store=store: self._users(store),  # type: ignore[misc]  # bound now, not when it is called
                environment=variables,
                on_child=on_child,
            )
            for store, mechanism in mechanisms.items()
            if mechanism.name == STRACE
        }

    def connect(self, environment: Environment, supervisor: Supervisor) -> None:
        """Learn who knows the processes."""
        self._environment, self._supervisor = environment, supervisor

    def lever(self, store: str) -> DiskLever:
        """Return what reaches the files of `store`; raises EnvironmentUnavailable when nothing does."""
        mechanism = self._mechanisms[store]
        if mechanism.name == STRACE:
            return self._traced[store]
        if mechanism.name == PRELOAD and self._control is not None:
            return _ClockedDisk(self._control, store)
        raise EnvironmentUnavailable(f"nothing reaches the files of {store}: {mechanism.reason}", "see `chaos doctor`")

    def started(self, store: str, pid: int) -> None:
        """Hear of a process of `store` that has just been started."""
        if store in self._traced:
            self._traced[store].started(pid)

    def _users(self, store: str) -> set[int]:
        """Return the processes that use `store` now: its own, and any other of this run that has a file of it open."""
        folder = f"{self._folder.data / store}/"
        ours = processes_with(RUN_MARK, str(self._folder.path))
        return {*self._own(store), *(pid for pid in ours if _has_open(pid, folder))}

    def _own(self, store: str) -> list[int]:
        assert self._environment is not None
        assert self._supervisor is not None
        if store == "graph":
            pid = self._supervisor.children.get("graph")
            return [] if pid is None else [pid]
        child = self._environment.shimmed() if store == "redis" else self._supervisor.child
        return [] if child is None or child.status is not None else [child.pid]


def _has_open(pid: int, folder: str) -> bool:
    with contextlib.suppress(OSError):  # gone meanwhile, or not ours
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(entry).startswith(folder):  # noqa: PTH115  # a link to what is no path is no Path
                    return True
    return False
