"""The power switch of a run: ends every process of the stores at one moment, rebuilds their disk, starts them again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from chaos.backends.aof import refuses
from chaos.backends.environment import Environment
from chaos.crashpoints import snapshot
from chaos.crashpoints.snapshot import Tree
from chaos.errors import EnvironmentUnavailable, HarnessError, PlanError
from chaos.faults.base import Evidence
from chaos.faults.disk.control import Control
from chaos.faults.disk.oplog import Operation, read_log
from chaos.runner import victims
from chaos.runner.supervisor import Supervisor

if TYPE_CHECKING:
    from chaos.crashpoints.outage import Outage

Counters = dict[str, int | float | str]


class OperationLog:
    """What processes do to the files of a run, from a known beginning: one log after the other, one at a time."""

    def __init__(self, control: Control, data: Path, place: Path) -> None:
        """Nothing is recorded before `begin`. `data` is the root of the stores' files, `place` gets the logs."""
        self.control = control
        self.data = data
        self._place = place
        self._number = 0
        self.start = Tree()

    def begin(self, start: Tree) -> None:
        """Begin a log. `start` is what the data folder holds now, all of it on the disk; no process runs."""
        self.start = start
        self._number += 1
        self.control.record(self._path)

    def end(self) -> list[Operation]:
        """End the log and return it; all processes must be dead.

        Raises HarnessError when records were lost, PlanError when the log cannot be read.
        """
        try:
            self.control.stop_recording()
            return read_log(self._path)
        finally:
            self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self._place / f"operations-{self._number}.log"


class Power:
    """The `PowerLever` of one run. Two power losses never overlap: the second waits for the end of the first."""

    def __init__(self, log: OperationLog, environment: Environment, supervisor: Supervisor) -> None:
        """Nothing happens yet."""
        self._log = log
        self._environment = environment
        self._supervisor = supervisor
        self._one_at_a_time = asyncio.Lock()
        self._off_for: str | None = None

    async def off(self, fault_id: str, policy: str, rng: Random) -> Evidence:
        """End everything, and rebuild the folders; see `chaos.faults.base.PowerLever`.

        The rebuilding is not awaited anywhere: a cancellation finds the folders either as they were or rebuilt.
        """
        await self._one_at_a_time.acquire()
        self._off_for = fault_id
        self._supervisor.hold()
        self._environment.keep_redis_down()
        killed, survivors = await victims.fell(self._log.control)
        evidence: Counters = {"clock": self._log.control.clock, "processes_killed": killed}
        if survivors:
            return {**evidence, "refused": f"processes {', '.join(map(str, survivors))} could not be killed"}
        return {**evidence, **self._rebuild(policy, rng)}

    async def on(self, fault_id: str) -> Evidence:
        """Start the server, then let the worker come back by the supervisor's hand.

        A server that refuses its log is given the one repair that its own message asks for. One that does not
        start all the same is a finding, not a failure of the fault: it is tried again as after any end, and the
        checks see what comes of it.
        """
        if self._off_for != fault_id:
            return {}
        self._off_for = None
        try:
            return await self._start_server()
        except EnvironmentUnavailable as error:
            return {"server": f"did not start: {error}"}
        finally:
            self._supervisor.release()
            self._one_at_a_time.release()

    async def _start_server(self) -> Counters:
        try:
            await self._environment.revive_redis()
        except EnvironmentUnavailable as error:
            if not refuses(str(error)):
                raise
            return {**await self._environment.mend_redis()}
        return {}

    def _rebuild(self, policy: str, rng: Random) -> Counters:
        # The explorer's model takes long to load, and few runs lose their power.
        from chaos.crashpoints import outage
        from chaos.crashpoints.recording import NoVerdict

        log, control = self._log, self._log.control
        found = snapshot.read(log.data)
        in_flight = control.in_flight()
        try:
            left = outage.rebuild(log.start, log.end(), found, policy, rng, in_flight=in_flight)
        except (NoVerdict, HarnessError, PlanError) as error:
            control.forget_dead()
            log.begin(found)
            return {"refused": str(error)}
        snapshot.clear(log.data)
        snapshot.write(left.tree, log.data)
        control.forget_dead()
        log.begin(left.tree)
        return _evidence(left)


def _evidence(left: Outage) -> Counters:
    losses = left.losses
    total: Counters = {
        "folders_rebuilt": len(losses),
        "bytes_lost": sum(loss.bytes_lost for loss in losses.values()),
        "names_lost": sum(loss.names_lost for loss in losses.values()),
    }
    for store, loss in losses.items():
        total[f"{store}_operations"] = loss.operations
        total[f"{store}_bytes_lost"] = loss.bytes_lost
        total[f"{store}_names_lost"] = loss.names_lost
    return total
