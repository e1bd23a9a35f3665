"""Everything of one run that has to be started and ended: folder, guardian, stores, worker, shim."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from chaos._channel import ChannelClosed, RemoteError
from chaos._declare import seconds
from chaos._process import TRACEABLE_VARIABLE, Child
from chaos.backends.environment import Environment
from chaos.backends.ownership import OWNER_VARIABLE, Owner
from chaos.crashpoints import snapshot
from chaos.errors import EnvironmentUnavailable, HarnessError
from chaos.experiment.plan import Plan
from chaos.experiment.reach import Reach, out_of_reach, refusal
from chaos.faults.disk import library
from chaos.faults.disk.control import Control
from chaos.faults.disk.mechanisms import PRELOAD, STRACE
from chaos.faults.disk.power import PowerLoss
from chaos.history.model import Kind
from chaos.history.writer import HistoryWriter
from chaos.runner.disks import Disks
from chaos.runner.eraser import erase
from chaos.runner.folder import RunFolder
from chaos.runner.guardian import RUN_MARK, Guardian, processes_with
from chaos.runner.ledger import Ledger
from chaos.runner.levers import RunLevers
from chaos.runner.nemesis import Nemesis
from chaos.runner.places import make_environment, network_lever
from chaos.runner.power import OperationLog, Power
from chaos.runner.result import RunOptions
from chaos.runner.supervisor import OPEN_TIMEOUT_S, Supervisor, WorkerPlan
from chaos.runner.worker import SYNC_WATCH
from chaos.transactions.system import SiteConfig

COMMIT_LOG = "sqlite/*-wal"
"""The log whose sync makes a commit durable, as a glob below the data folder."""

DYING_S = 0.2
"""What a child of the worker may take to follow it, before it counts as left behind."""


class Stage:
    """Builds the scene of a run from the bottom up, and takes it down again in reverse, whatever was built."""

    def __init__(
        self, plan: Plan, options: RunOptions, folder: RunFolder, guardian: Guardian, mechanisms: Reach
    ) -> None:
        """Nothing is started yet. `mechanisms` says how file faults reach the stores."""
        self._mechanisms = mechanisms
        self._disks: Disks | None = None
        self._plan = plan
        self._options = options
        self._folder = folder
        self._guardian = guardian
        self._stores = {store.name: store.to_config() for store in plan.experiment.stores}
        if options.graph is not None and "graph" in self._stores:
            self._stores["graph"] = {**self._stores["graph"], "engine": options.graph}
        self.history = HistoryWriter(folder.path / "history.jsonl")
        self.ledger = Ledger(folder.path / "faults.jsonl", start_ns=self.history.start_ns)
        self.control: Control | None = None
        self.log: OperationLog | None = None
        """Kept only for a plan with a power loss, since recording costs time."""
        self.environment: Environment | None = None
        self.supervisor: Supervisor | None = None
        self.nemesis: Nemesis | None = None
        self._at_phase = 0
        self.failure: HarnessError | None = None
        """The first failure to write the history from a callback that cannot raise it."""
        self.strays: list[str] = []
        """Processes that the system under test left behind, and that were killed."""

    @property
    def store_names(self) -> tuple[str, ...]:
        """Names of the stores, in the experiment's order."""
        return tuple(self._stores)

    @property
    def graph_engine(self) -> str:
        """Name of the graph engine in use."""
        return str(self._stores.get("graph", {}).get("engine", "kuzu"))

    async def start(self) -> None:
        """Start the stores, the proxy and the first worker.

        Raises EnvironmentUnavailable when something is missing or does not come up; what was started until
        then is ended by `stop`.
        """
        self._require_engine()
        mark = {RUN_MARK: str(self._folder.path), OWNER_VARIABLE: Owner.this().mark}
        variables = {**self._load_shim(), **mark}
        if any(mechanism.name == STRACE for mechanism in self._mechanisms.values()):
            variables[TRACEABLE_VARIABLE] = "1"
        self._disks = Disks(self._mechanisms, self._folder, self.control, mark, self._watch)
        self.environment = make_environment(
            self._options,
            self._folder,
            self._guardian,
            redis=self._stores.get("redis", {}),
            shim_environment=variables,
            on_server=self._record_server,
            on_child=self._watch,
        )
        await self.environment.start()
        self._guardian.all_made()
        self.supervisor = Supervisor(
            self._worker_plan(variables),
            self.history,
            on_phase=self._on_phase,
            on_phase_told=self._on_phase_told,
            on_child=self._watch,
            on_pid=self._watch_pid,
            restart_deadline_s=max(30.0, 2 * seconds(self._plan.experiment.recovery.budget)),
            held=self._worker_held,
        )
        network = await network_lever(
            self.environment, self._plan, self._folder, wire=self._options.wire, start_ns=self.history.start_ns
        )
        power = Power(self.log, self.environment, self.supervisor) if self.log is not None else None
        self._disks.connect(self.environment, self.supervisor)
        eraser = partial(erase, log=self._folder.logs / "eraser.log", environment=variables, on_child=self._watch)
        levers = RunLevers(self.environment, network, self.supervisor, self._disks, self._folder.data, eraser, power)
        self.nemesis = Nemesis(self._plan.rules, self._plan.seed, levers, self.history, self.ledger)
        self.nemesis.on_armed = self.supervisor.arm
        try:
            await self.supervisor.start(set_up=True)
        except (ChannelClosed, RemoteError, TimeoutError) as error:
            raise EnvironmentUnavailable(
                f"the system under test did not open: {str(error) or f'no answer within {OPEN_TIMEOUT_S:g}s'}",
                f"read {self._folder.logs / 'worker.log'}",
            ) from error

        self._require_shim()

    def check(self) -> None:
        """Raise HarnessError when a part of the harness has failed behind the scene; cheap, called often."""
        if self.environment is not None:
            lost = self.environment.lost_proxy()
            if lost is not None:
                raise lost
        for failure in (
            self.failure,
            self.nemesis.failure if self.nemesis is not None else None,
            self.supervisor.broken if self.supervisor is not None else None,
        ):
            if isinstance(failure, HarnessError):
                raise failure
            if failure is not None:
                raise HarnessError(f"{type(failure).__name__}: {failure}") from failure

    async def stop(self, *, in_peace: bool) -> list[str]:
        """End everything; return what could not be ended or removed (empty: nothing is left). Idempotent.

        Each part is ended whatever happens to the others.
        """
        left: list[str] = []
        parts: tuple[Callable[[], Coroutine[Any, Any, list[str]]], ...] = (
            partial(self._stop_supervisor, in_peace=in_peace),
            self._stop_environment,
            self._end_strays,
        )
        for part in parts:
            try:
                left += await part()
            except Exception as error:  # noqa: BLE001  # told as left behind; the other parts must still be ended
                left.append(f"{type(error).__name__}: {error}")
        if self.control is not None:
            self._save_injections(self.control)
            self.control.close()
        self.history.close()
        self.ledger.close()
        return left

    async def _stop_supervisor(self, *, in_peace: bool) -> list[str]:
        if self.supervisor is None:
            return []
        await self.supervisor.stop(in_peace=in_peace)
        child = self.supervisor.child
        return [f"worker (pid {child.pid})"] if child is not None and child.status is None else []

    async def _stop_environment(self) -> list[str]:
        if self.environment is None:
            return []
        left = await self.environment.stop()
        if not left:
            self._folder.give_back()
        return left

    async def _end_strays(self) -> list[str]:
        """Kill what the system under test started and left behind; it carries this run's mark."""
        mark = str(self._folder.path)
        if processes_with(RUN_MARK, mark):
            await asyncio.sleep(DYING_S)
        for pid, command in processes_with(RUN_MARK, mark).items():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.strays.append(f"{command} (pid {pid})")
        return []

    def _save_injections(self, control: Control) -> None:
        """Keep what the shim recorded of every injected call, in the order of its clock."""
        lines = [msgspec.json.encode(record) + b"\n" for record in control.records()]
        if lines:
            with contextlib.suppress(OSError):
                (self._folder.logs / "injected_calls.jsonl").write_bytes(b"".join(lines))

    def _worker_held(self) -> bool:
        """Whether a fault holds the worker: paused, or standing still at a phase while a fault is put in place."""
        return self._at_phase > 0 or (self.nemesis is not None and self.nemesis.holds("process.pause", "worker"))

    def _record_server(self, what: str, number: int) -> None:
        self._record("event", what, value={"status" if what == "server_exited" else "pid": number})

    def _watch(self, child: Child) -> None:
        """Hear of a process of ours: the worker, the server, a proxy, a strace."""
        self._guardian.watch_process(child.pid)
        store = {"worker": "sqlite", "redis": "redis"}.get(child.name)
        if store is not None and self._disks is not None:
            self._disks.started(store, child.pid)

    def _watch_pid(self, pid: int) -> None:
        """Hear of a process that the worker has started."""
        self._guardian.watch_process(pid)
        if self._disks is not None and self.supervisor is not None and self.supervisor.children.get("graph") == pid:
            self._disks.started("graph", pid)

    def _require_engine(self) -> None:
        if "graph" in self._stores and importlib.util.find_spec(self.graph_engine) is None:
            raise EnvironmentUnavailable(
                f"graph engine={self.graph_engine} is not installed",
                f"pip install 'chaos-harness[{self.graph_engine}]', or choose another with --graph",
            )

    def _require_shim(self) -> None:
        """Demand the shim's handshake from the processes it was loaded into: ld.so only warns and goes on."""
        assert self.environment is not None
        assert self.supervisor is not None
        for store, child in (("sqlite", self.supervisor.child), ("redis", self.environment.shimmed())):
            if child is None or self.control is None or self._mechanisms[store].name != PRELOAD:
                continue
            if not self.control.has_attached(child.pid):
                raise HarnessError(f"the file shim is not loaded in {child.name} (pid {child.pid}); see its log")

    def _load_shim(self) -> dict[str, str]:
        """Make the control file and return the variables that load the shim; none where no store is reached by it.

        Raises EnvironmentUnavailable when the plan has a file fault that nothing brings to its store, and when the
        library that CHAOS_SHIM_LIBRARY names cannot be used.
        """
        available, reason = library.available()
        if not available and os.environ.get(library.OVERRIDE):  # what a user names is never silently done without
            raise EnvironmentUnavailable(reason, f"or unset {library.OVERRIDE}")
        faults = [rule.fault for rule in self._plan.rules]
        kinds, reason = out_of_reach(faults, self._mechanisms)
        if kinds:
            raise EnvironmentUnavailable(
                f"the plan has file faults ({', '.join(kinds)}) that cannot reach their store: {reason}",
                "see `chaos doctor`",
            )
        refused = [told for fault in faults if (told := refusal(fault, self._mechanisms)) is not None]
        if refused:
            raise EnvironmentUnavailable(f"a file fault of the plan cannot be done: {refused[0]}", "see `chaos doctor`")
        if not any(mechanism.name == PRELOAD for mechanism in self._mechanisms.values()):
            return {}
        self.control = Control.create(self._folder.control, self._folder.data)
        self.control.arm(SYNC_WATCH, {"calls": ("fsync", "fdatasync"), "path": COMMIT_LOG, "action": "count"})
        if any(rule.fault.kind == PowerLoss.kind for rule in self._plan.rules):
            self._record_operations(self.control)
        return library.environment(self._folder.control)

    def _record_operations(self, control: Control) -> None:
        """Record from before the first process on; the stores' folders are there, empty, and their names durable."""
        for name in self._stores:
            (self._folder.data / name).mkdir(mode=0o700)
        self.log = OperationLog(control, self._folder.data, self._folder.live)
        self.log.begin(snapshot.read(self._folder.data))

    def _worker_plan(self, variables: dict[str, str]) -> WorkerPlan:
        assert self.environment is not None
        config = SiteConfig(
            redis_host=self.environment.redis_host,
            redis_port=self.environment.redis_port,
            data_folder=str(self._folder.data),
            graph_engine=self.graph_engine,
            workload=self._plan.experiment.workload.to_config(),
            options={**self._stores, "system": self._plan.experiment.system.to_config()},
        )
        return WorkerPlan(
            location=self._plan.experiment.system.location(self._plan.source),
            config=config,
            armed=lambda: () if self.nemesis is None else self.nemesis.armed,
            environment=variables,
            log=self._folder.logs / "worker.log",
        )

    async def _on_phase(self, args: dict[str, Any]) -> None:
        """A phase with a rule: record it, let the nemesis act, then let the worker go on."""
        self._record_phase(args)
        if self.nemesis is not None:
            self._at_phase += 1
            try:
                await asyncio.shield(self.nemesis.phase(args["name"]))
            finally:
                self._at_phase -= 1

    def _on_phase_told(self, args: dict[str, Any]) -> None:
        self._record_phase(args)

    def _record_phase(self, args: dict[str, Any]) -> None:
        value = {"store": args["store"], "syncs": args["syncs"]}
        self._record("step", args["name"], token=args["token"], value=value)

    def _record(self, kind: Kind, f: str, *, value: dict[str, Any], token: str | None = None) -> None:
        """Append to the history from a callback; what that raises is kept for `check`."""
        try:
            self.history.append(kind, f, value=value, token=token)
        except HarnessError as error:
            self.failure = self.failure or error
