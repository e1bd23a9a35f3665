"""One run, from an empty folder to a verdict: start, steady state, load and faults, recovery, reading back."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from dataclasses import replace
from functools import partial

from chaos._declare import seconds
from chaos._seeds import stream
from chaos.errors import EnvironmentUnavailable, HarnessError, HealFailed
from chaos.exit_codes import ExitCode
from chaos.experiment.plan import Plan
from chaos.experiment.probes import Commits, PingAll
from chaos.experiment.reach import reach
from chaos.experiment.venues import DEFAULT_BACKEND
from chaos.history.model import Entry
from chaos.runner.clients import Load
from chaos.runner.ending import Ending, harness_failed, not_healed, not_started, to_the_end
from chaos.runner.folder import RunFolder
from chaos.runner.guardian import Guardian
from chaos.runner.health import AGREE_EVERY_S, Health, Occasion
from chaos.runner.leftovers import clear
from chaos.runner.manifest import Manifest
from chaos.runner.nemesis import Nemesis
from chaos.runner.result import Progress, RunOptions, RunResult, Snapshot, repeat_command
from chaos.runner.stage import Stage
from chaos.runner.supervisor import WORKER_ERRORS
from chaos.transactions.system import Committed

TICK_S = 0.05
PROGRESS_EVERY_S = 0.2
OPEN_FAULTS_GRACE_S = 30.0
"""How long past the load and its overtime faults that end at a phase or after a delay are still waited for."""
AFTER_BUDGET_S = 1.0
"""How long past the recovery budget the load goes on, so that a late recovery is seen to be late."""


class SystemGone(Exception):
    """The system under test cannot be opened any more. A finding, not a failure of the harness: it is judged."""


class Run:
    """Executes one plan. One object, one run."""

    def __init__(self, plan: Plan, options: RunOptions, progress: Progress | None) -> None:
        """Nothing is started or written yet."""
        self._plan = plan
        self._experiment = plan.experiment
        self._options = options
        self._progress = progress
        self._repeat = repeat_command(plan, options)
        self._folder: RunFolder | None = None
        self._manifest: Manifest | None = None
        self._load: Load | None = None
        self._health: Health | None = None
        self._phase = "starting"
        self._phase_ends_ns = 0
        self._good_invoked: list[int] = []
        self._steady = False
        self._played = False
        self._left: list[str] = []
        self._lost_proxy: HarnessError | None = None

    async def execute(self) -> RunResult:
        """Run it; see `chaos.runner.api.run`."""
        try:
            self._folder = RunFolder(self._options.out, self._experiment.id, self._options.seed)
        except EnvironmentUnavailable as error:
            return self._result(not_started(error))
        guardian = Guardian()
        try:
            guardian.watch_folder(self._folder.live)
            guardian.watch_manifest(self._folder.path / "run.json")
            guardian.watch_mark(str(self._folder.path))
            ending = await self._guarded(guardian)
        except EnvironmentUnavailable as error:
            ending = not_started(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is ours, and the folder must say so
            traceback.print_exc()
            ending = harness_failed(error)
        finally:
            if not self._folder.remove_live():
                self._left.append(f"live data {self._folder.live}")
            guardian.dismiss()
        return self._written(ending)

    def interrupted(self, signal_number: int) -> RunResult:
        """Return the result of a run that a signal ended, and note it in the folder."""
        if self._left:
            return self._written(not_healed(self._left))
        told = f"ended by signal {signal_number}; everything was healed"
        return self._written(Ending("interrupted", 128 + signal_number, told))

    async def _guarded(self, guardian: Guardian) -> Ending:
        """Set the stage, play, and take the stage down on every way out; then judge."""
        assert self._folder is not None
        self._folder.prepare()
        names = [store.name for store in self._experiment.stores]
        mechanisms = reach(names, backend=self._options.backend, files=self._options.files)
        self._manifest = Manifest(self._folder, self._plan, self._options, self._repeat, mechanisms)
        await self._look_for_leftovers(self._manifest)
        stage = Stage(self._plan, self._options, self._folder, guardian, mechanisms)
        stopped: str | None = None
        ending: Ending | None = None
        try:
            stopped = await self._until_wall(stage)
        except EnvironmentUnavailable as error:
            ending = not_started(error)
        except HealFailed as error:
            ending = not_healed([str(error)])
        except HarnessError as error:
            ending = harness_failed(error)
        finally:
            in_peace = self._played and stopped is None and ending is None
            await to_the_end(self._take_down(stage, in_peace=in_peace))
        self._manifest.identities(stage)
        if self._lost_proxy is not None:
            return harness_failed(self._lost_proxy)
        if self._left:
            return not_healed(self._left)
        return ending or self._judged(stopped)

    async def _look_for_leftovers(self, manifest: Manifest) -> None:
        """Remove what earlier runs left and say so."""
        lines = await clear(self._options.out, daemon=self._options.backend != DEFAULT_BACKEND)
        manifest.leftovers(lines)
        if lines:
            with contextlib.suppress(OSError):
                print(f"earlier runs left something: {'; '.join(lines)}", file=sys.stderr)

    async def _until_wall(self, stage: Stage) -> str | None:
        """Play within the wall time; return why the run ended early, None when it went to its end."""
        try:
            async with asyncio.timeout(seconds(self._experiment.limits.wall)) as wall:
                try:
                    await self._play(stage)
                except SystemGone as error:
                    return await self._gone(stage, str(error))
        except TimeoutError:
            if not wall.expired():
                raise
            if not self._steady:
                raise EnvironmentUnavailable(
                    f"limits.wall={self._experiment.limits.wall!r} ran out before there was a steady state "
                    f"(in the phase: {self._phase})",
                    "raise it, or look for what hangs; an image that has to be pulled is better pulled by hand",
                ) from None
            return f"stopped by limits.wall={self._experiment.limits.wall!r}; raise it, or look for what hangs"
        self._played = True
        return None

    async def _gone(self, stage: Stage, told: str) -> str:
        """Heal everything, try once more, and note that the system is gone; return why the run ended early.

        Raises HarnessError when it is the harness that has failed: then nothing is said of the system.
        """
        stage.check()
        assert stage.supervisor is not None
        assert stage.nemesis is not None
        await stage.nemesis.heal_all()
        try:
            await stage.supervisor.restart_in_peace(seconds(self._experiment.recovery.budget))
        except WORKER_ERRORS as error:
            stage.check()
            text = str(error) or "no answer in time"
            stage.history.append("event", "system_gone", value={}, error=text)
            return told
        return f"{told}; it opened once every fault was healed"

    async def _take_down(self, stage: Stage, *, in_peace: bool) -> None:
        """Heal, end and remove everything; what cannot be is noted in `_left`. No step hinders the next."""
        if stage.environment is not None:
            self._lost_proxy = stage.environment.lost_proxy()
        if self._load is not None:
            self._load.abandon()
        for step in (self._end_health, lambda: self._heal(stage), lambda: stage.stop(in_peace=in_peace)):
            try:
                self._left += await step()
            except Exception as error:  # noqa: BLE001  # what fails here must not keep the rest from being ended
                self._left.append(f"{type(error).__name__}: {error}")

    async def _end_health(self) -> list[str]:
        if self._health is not None:
            await self._health.stop()
        return []

    async def _heal(self, stage: Stage) -> list[str]:
        if stage.nemesis is not None:
            try:
                await stage.nemesis.heal_all()
            except HealFailed as error:
                return [] if self._lost_proxy is not None else [str(error)]  # a dead proxy holds nothing
        return []

    async def _play(self, stage: Stage) -> None:
        """The run itself, act by act."""
        self._enter("starting stores", 1.0)
        await stage.start()
        assert stage.supervisor is not None
        assert stage.nemesis is not None
        workload = self._experiment.workload
        load = self._load = Load(workload, self._plan.seed, stage.supervisor, stage.history)
        load.on_acknowledged = partial(self._on_acknowledged, stage.nemesis)
        health = self._health = Health(stage.supervisor, stage.history, stage.store_names)
        watcher = asyncio.get_running_loop().create_task(self._report_progress(stage))
        try:
            self._enter("steady state", 1.0)
            await self._steady_state(stage, health, load, "before")
            self._steady = True
            self._enter("load", seconds(workload.seconds))
            await self._load_and_faults(stage, load, health)
            self._enter("recovery", 1.0)
            await self._steady_state(stage, health, load, "after")
            await self._converge(stage, health)
            self._enter("reading back", 1.0)
            await health.record_reading(load.new_process(), "final")
            try:
                await stage.supervisor.restart_in_peace()
            except WORKER_ERRORS as error:
                text = str(error) or "no answer in time"
                raise SystemGone(f"a new process could not open the stores at the end: {text}") from error
            await health.record_reading(load.new_process(), "reopened")
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _steady_state(self, stage: Stage, health: Health, load: Load, occasion: Occasion) -> None:
        """Demand every probe within its time; before the load a missing steady state ends the run."""
        for index, probe in enumerate(self._experiment.steady_state):
            within_s = seconds(probe.within)
            held = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    match probe:
                        case PingAll():
                            held = await self._until_pinged(health, occasion)
                        case Commits(at_least=count):
                            held = await self._until_committed(stage, load, count, f"{occasion}{index}")
            if not held and occasion == "before":
                last = f" (the last transaction: {load.last_error})" if load.last_error else ""
                raise EnvironmentUnavailable(
                    f"no steady state before the faults: {type(probe).__name__} not within {within_s:g}s{last}",
                    "raise within, or look at the logs of the run",
                )
            if not held:
                value = {"ok": False, "stores": {}, "occasion": occasion}
                load.history.append("event", "probe", value=value, error=type(probe).__name__)

    async def _until_pinged(self, health: Health, occasion: Occasion) -> bool:
        while not await health.ping(occasion):
            await asyncio.sleep(TICK_S)
        return True

    async def _until_committed(self, stage: Stage, load: Load, count: int, name: str) -> bool:
        """Run transactions one after the other, as a client of its own, until `count` are acknowledged.

        Pauses after each that was not, so that a worker that is gone is waited for and not asked for ever.
        """
        rng = stream(self._plan.seed, "probe", name)
        good, ordinal = 0, 0
        while good < count:
            process = load.new_process()
            token = f"{name}.{ordinal}"
            spec = self._experiment.workload.draw(rng, token, process, ordinal)
            if await load.transact(process, token, spec) == "ok":
                good += 1
            else:
                await self._tick(stage)
            ordinal += 1
        return True

    async def _load_and_faults(self, stage: Stage, load: Load, health: Health) -> None:
        """Load, with faults, then on until the first good work after the last heal; then stop the clients."""
        nemesis, history = stage.nemesis, stage.history
        assert nemesis is not None
        length_s = seconds(self._experiment.workload.seconds)
        longest_s = length_s + seconds(self._experiment.limits.overtime or length_s)
        history.append("event", "load_started", value={})
        health.watch(nemesis.changed_since)
        nemesis.watch = health
        nemesis.start()
        load.start()
        started_ns = time.monotonic_ns()

        def elapsed_s() -> float:
            return (time.monotonic_ns() - started_ns) / 1e9

        while not nemesis.only_endless_left or elapsed_s() < length_s:
            # Phases come later on a slow machine: rules that wait for one get more time, open faults still more.
            if elapsed_s() >= longest_s + (OPEN_FAULTS_GRACE_S if nemesis.open_faults else 0):
                break
            await self._tick(stage)
        await nemesis.heal_all()
        history.append("event", "all_healed", value={})
        healed_ns = history.now_ns()
        self._enter("recovery", seconds(self._experiment.recovery.budget))
        needed = max(1, self._experiment.guards.after)
        deadline_s = elapsed_s() + seconds(self._experiment.recovery.budget) + AFTER_BUDGET_S
        while elapsed_s() < deadline_s and sum(at >= healed_ns for at in self._good_invoked[-needed:]) < needed:
            await self._tick(stage)
        await load.stop()
        await health.stop()
        history.append("event", "load_stopped", value={})

    async def _tick(self, stage: Stage) -> None:
        assert stage.supervisor is not None
        await asyncio.sleep(TICK_S)
        stage.check()
        if self._load is not None:
            self._load.check()
        if stage.supervisor.failure is not None:
            raise SystemGone(f"the system under test does not open any more: {stage.supervisor.failure}")

    async def _converge(self, stage: Stage, health: Health) -> None:
        """Settle what is in doubt, poll until the stores agree, then watch them through the hold time."""
        assert stage.supervisor is not None
        budget_ns = seconds(self._experiment.recovery.budget) * 1e9
        hold_s = seconds(self._experiment.recovery.hold)
        started_ns = time.monotonic_ns()
        while True:
            stage.check()
            settled = await stage.supervisor.settle(5.0)
            agreed = await health.agreement("converging")
            # Only after the look: the last one lies beyond the budget, or nobody could say that it was exceeded.
            if (agreed and settled) or time.monotonic_ns() - started_ns >= budget_ns:
                break
            await asyncio.sleep(AGREE_EVERY_S)
        held_since_ns = time.monotonic_ns()
        self._enter("hold", hold_s)
        while agreed and time.monotonic_ns() - held_since_ns < hold_s * 1e9:
            await asyncio.sleep(min(AGREE_EVERY_S, hold_s))
            stage.check()
            agreed = await health.agreement("holding")

    def _on_acknowledged(self, nemesis: Nemesis, invoked: Entry, outcome: Committed) -> None:
        if outcome.applied:
            self._good_invoked.append(invoked.time_ns)
            nemesis.acknowledged()

    def _enter(self, phase: str, expected_s: float) -> None:
        self._phase = phase
        self._phase_ends_ns = time.monotonic_ns() + int(expected_s * 1e9)

    async def _report_progress(self, stage: Stage) -> None:
        assert self._load is not None
        before, before_ns = 0, time.monotonic_ns()
        while self._progress is not None:
            now_ns = time.monotonic_ns()
            rate = (self._load.acknowledged - before) / max((now_ns - before_ns) / 1e9, 1e-3)
            before, before_ns = self._load.acknowledged, now_ns
            self._progress.update(
                Snapshot(
                    phase=self._phase,
                    rate=rate,
                    acknowledged=self._load.acknowledged,
                    open_faults=stage.nemesis.open_faults if stage.nemesis is not None else (),
                    seconds_left=max(0.0, (self._phase_ends_ns - now_ns) / 1e9),
                )
            )
            await asyncio.sleep(PROGRESS_EVERY_S)

    def _judged(self, stopped: str | None) -> Ending:
        """Judge in memory, and keep the stores' files when the run did not pass."""
        assert self._manifest is not None
        judged = self._manifest.judge(stopped)
        if judged.exit_code != ExitCode.PASS or self._options.keep:
            self._manifest.folder.keep_stores()
        return Ending(judged.verdict, judged.exit_code, judged.message, judged)

    def _written(self, ending: Ending) -> RunResult:
        """Write the ending into the folder; a disk that refuses it is told, and never turns into a pass."""
        if self._left and ending.exit_code == ExitCode.PASS:
            ending = not_healed(self._left)
        if self._manifest is not None:
            try:
                self._manifest.finish(ending)
            except EnvironmentUnavailable as error:
                code = ending.exit_code if ending.exit_code != ExitCode.PASS else int(ExitCode.HARNESS)
                ending = replace(
                    ending, exit_code=code, message=f"{ending.message} The evidence is incomplete: {error}"
                )
        return self._result(ending)

    def _result(self, ending: Ending) -> RunResult:
        return RunResult(
            experiment_id=self._experiment.id,
            seed=self._options.seed,
            verdict=ending.verdict,
            exit_code=int(ending.exit_code),
            folder=self._folder.path if self._folder is not None else None,
            verdicts=ending.judged.verdicts if ending.judged is not None else (),
            message=ending.message,
            repeat=self._repeat,
            report=ending.judged.report if ending.judged is not None else None,
        )
