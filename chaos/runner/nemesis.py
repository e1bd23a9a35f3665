"""The nemesis: applies the planned faults when their moment comes, and heals every one of them.

A rule waits for a time or for the nth occurrence of a phase. Phases with a rule are reported by the worker
as questions, so the transaction stands still until the fault is in place: a cut lands between two steps, not
somewhere near them. How the system is before a fault is asked anew where time decides; a transaction that stands
still at a phase is not kept waiting for that, so there the latest probe counts.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from chaos._seeds import stream
from chaos.errors import HarnessError, HealFailed
from chaos.experiment.plan import AfterDelay, AtNext, AtPhase, AtTime, PlannedRule
from chaos.faults.base import STRUCK, Evidence, Injection, Levers
from chaos.history.writer import HistoryWriter
from chaos.runner.ledger import Ledger

HEAL_TIMEOUT_S = 10.0
TARGET_TIMEOUT_S = 3.0


@dataclass
class RuleState:
    """Where one rule stands. *_count: how many good transactions there had been."""

    rule: PlannedRule
    injection: Injection | None = None
    begun_ns: int | None = None
    begun_count: int = 0
    ended: bool = False
    ended_count: int = 0
    landed: bool = False
    end_came: bool = True
    error: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Watch(Protocol):
    """Who knows whether the system is well."""

    well: bool | None

    async def look(self) -> bool | None:
        """Look now, for a moment at most; the answer is `well` from then on."""

    def look_soon(self, fault_id: str) -> None:
        """Look once the fault has been healed, without holding anybody up, and record it."""


class Nemesis:
    """Runs the rules of one plan. `phase` is called for every phase reported by the worker."""

    def __init__(
        self, rules: Sequence[PlannedRule], seed: int, levers: Levers, history: HistoryWriter, ledger: Ledger
    ) -> None:
        """Nothing happens before `start`, and phases are counted from then on too."""
        self._seed = seed
        self._levers = levers
        self._history = history
        self._ledger = ledger
        self._states = [RuleState(rule) for rule in rules]
        self._order: list[RuleState] = []
        self._phases: Counter[str] = Counter()
        self._good_count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._stopping = False
        self._changed_ns = 0
        self.on_armed: Callable[[frozenset[str]], None] = lambda _: None
        """Hears of `armed` whenever that changes."""
        self._told_armed = self.armed
        self.watch: Watch | None = None
        """Asked before each injection and after each heal; None: nobody looks."""
        self.failure: BaseException | None = None
        """The first failure to record or to apply a rule in the background: one of the harness."""

    @property
    def open_faults(self) -> tuple[str, ...]:
        """Kinds of the faults that hold now, in the order of injection."""
        return tuple(state.rule.fault.kind for state in self._order if state.begun_ns is not None and not state.ended)

    def holds(self, kind: str, target: str) -> bool:
        """Whether a fault of this kind holds that target now."""
        return any(
            state.begun_ns is not None
            and not state.ended
            and state.rule.fault.kind == kind
            and state.rule.fault.arguments().get("target") == target
            for state in self._order
        )

    @property
    def armed(self) -> frozenset[str]:
        """The phases that a rule waits for just now, so that whoever reaches one has to ask before it goes on.

        A rule that waits for its turn, and for transactions before it, waits for its phase only after those.
        """
        beginnings = (one.rule.trigger for one in self._states if one.begun_ns is None and self._has_turn(one))
        ends = (one.rule.until for one in self._states if not one.ended and self._may_end(one))
        return frozenset(moment.name for moment in (*beginnings, *ends) if isinstance(moment, AtPhase | AtNext))

    def changed_since(self, moment_ns: int) -> bool:
        """Whether a fault holds now, or one began or ended after `moment_ns` of the monotonic clock."""
        return self._changed_ns >= moment_ns or bool(self.open_faults)

    @property
    def only_endless_left(self) -> bool:
        """Whether each rule is over, or holds until the load ends."""
        return all(state.ended or (state.begun_ns is not None and self._endless(state)) for state in self._states)

    def start(self) -> None:
        """Begin: times of the schedule count from now."""
        self._started = True
        moments: dict[float, list[RuleState]] = {}
        for state in self._states:
            if isinstance(state.rule.trigger, AtTime):
                moments.setdefault(state.rule.trigger.seconds, []).append(state)
        for delay_s, together in moments.items():
            self._spawn(self._inject_later(together, delay_s))

    async def phase(self, name: str) -> None:
        """Count one occurrence of a phase, and apply and heal what was waiting for it, before returning."""
        if not self._started or self._stopping:
            return
        self._phases[name] += 1
        reached = AtPhase(name, self._phases[name])
        ending = [one for one in self._states if one.begun_ns is not None and self._reached(one.rule.until, reached)]
        for state in ending:
            if self._may_end(state):
                await self._heal(state)
        beginning = [one for one in self._states if self._reached(one.rule.trigger, reached) and self._has_turn(one)]
        for state in beginning:
            await self._inject(state)

    def acknowledged(self) -> None:
        """Count a transaction that was acknowledged with every store caught up."""
        self._good_count += self._started
        self._tell_armed()

    @staticmethod
    def _reached(moment: object, reached: AtPhase) -> bool:
        return moment == reached or (isinstance(moment, AtNext) and moment.name == reached.name)

    def _has_turn(self, state: RuleState) -> bool:
        """Tell whether a rule waits for nothing but its phase any more."""
        trigger = state.rule.trigger
        if not isinstance(trigger, AtNext):
            return True
        first = next(index for index, one in enumerate(self._states) if one.rule.trigger is trigger)
        before = self._states[:first]
        if trigger.after == 0:
            return all(one.begun_ns is not None for one in before)
        since = max((one.ended_count for one in before), default=0)
        return all(one.ended for one in before) and self._good_count - since >= trigger.after

    def _may_end(self, state: RuleState) -> bool:
        until = state.rule.until
        if not isinstance(until, AtNext):
            return True
        return state.begun_ns is not None and self._good_count - state.begun_count >= until.after

    def _tell_armed(self) -> None:
        armed = self.armed
        if armed != self._told_armed:
            self._told_armed = armed
            self.on_armed(armed)

    async def heal_all(self) -> None:
        """Heal whatever holds, the last injected first; rules still waiting are dropped.

        Raises HealFailed, after trying all of them, when one could not be healed. Shield it from cancellation.
        """
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for state in reversed(self._order):
            state.end_came = state.end_came and (state.ended or self._endless(state) or not state.rule.fault.lasting)
            await self._heal(state)
        stuck = [
            f"{state.rule.id} ({state.rule.fault.kind}): {state.error}" for state in self._order if not state.ended
        ]
        if stuck:
            raise HealFailed(f"could not heal {', '.join(stuck)}")

    @staticmethod
    def _endless(state: RuleState) -> bool:
        return state.rule.fault.lasting and not isinstance(state.rule.until, AfterDelay | AtPhase | AtNext)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self.failure = self.failure or task.exception()

    async def _inject_later(self, together: Sequence[RuleState], delay_s: float) -> None:
        """Look how the system is, then inject all that have the same moment, in order.

        Under a fault that holds the latest probe is known already, and a look could only delay the next fault.
        """
        await asyncio.sleep(delay_s)
        if self.watch is not None and not self.open_faults:
            await self.watch.look()
        for state in together:
            self._spawn(self._inject(state))

    async def _heal_later(self, state: RuleState, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await asyncio.shield(self._heal(state))

    async def _inject(self, state: RuleState) -> None:
        rule, fault = state.rule, state.rule.fault
        async with state.lock:
            if state.begun_ns is not None or self._stopping:
                return
            state.begun_ns = self._changed_ns = time.monotonic_ns()
            state.begun_count = self._good_count
            self._tell_armed()
            state.injection = Injection(rule.id)
            self._order.append(state)
            self._ledger.write(rule.id, "intended", {"kind": fault.kind, "arguments": fault.arguments()})
            self._history.append(
                "fault_begin",
                fault.kind,
                fault=rule.id,
                value={
                    "arguments": fault.arguments(),
                    "lasting": fault.lasting,
                    "stops_work": fault.stops_work,
                    "severs": fault.severs,
                    "bounded": fault.bounded,
                    "well_before": None if self.watch is None else self.watch.well,
                },
            )
            try:
                state.injection = await self._inject_patiently(state)
            except Exception as error:  # noqa: BLE001  # a fault that cannot be applied is told in its fault_end, as not landed
                state.error = f"{type(error).__name__}: {error}"
            self._ledger.write(rule.id, "applied", {"evidence": dict(state.injection.evidence), "error": state.error})
        if not fault.lasting or state.error is not None:
            await self._heal(state)
        elif isinstance(rule.until, AfterDelay):
            self._spawn(self._heal_later(state, rule.until.seconds))

    async def _inject_patiently(self, state: RuleState) -> Injection:
        """Apply the fault; when its process is just being restarted, wait for it a little."""
        policy = AsyncRetrying(
            retry=retry_if_exception_type(ProcessLookupError),
            stop=stop_after_delay(TARGET_TIMEOUT_S),
            wait=wait_fixed(0.02),
            reraise=True,
        )
        rng = stream(self._seed, "fault", state.rule.id)
        return await policy(state.rule.fault.inject, self._levers, state.rule.id, rng)

    async def _heal(self, state: RuleState) -> None:
        rule, fault = state.rule, state.rule.fault
        async with state.lock:
            if state.ended or state.injection is None:
                return
            try:
                async with asyncio.timeout(HEAL_TIMEOUT_S):
                    evidence = self._on_our_clock(await fault.heal(self._levers, state.injection))
            except Exception as error:  # noqa: BLE001  # told by heal_all, which tries again and then gives up loudly
                state.error = state.error or f"{type(error).__name__}: {error}"
                self._note(lambda: self._ledger.write(rule.id, "heal_failed", {"error": state.error}))
                return
            state.ended = True
            state.ended_count = self._good_count
            self._tell_armed()
            self._changed_ns = time.monotonic_ns()
            state.landed = state.error is None and fault.landed(evidence)
            value: dict[str, Any] = {"evidence": evidence, "landed": state.landed, "end_came": state.end_came}
            self._note(lambda: self._ledger.write(rule.id, "healed", value))
            self._note(
                lambda: self._history.append("fault_end", fault.kind, fault=rule.id, value=value, error=state.error)
            )
            if self.watch is not None:
                self.watch.look_soon(rule.id)

    def _on_our_clock(self, evidence: Evidence) -> dict[str, int | float | str]:
        """Return the evidence with the time of the last blow as `struck_at_s`, in seconds since the run began."""
        told = {name: value for name, value in evidence.items() if name != STRUCK}
        struck_ns = evidence.get(STRUCK)
        if isinstance(struck_ns, int):
            told["struck_at_s"] = (struck_ns - self._history.start_ns) / 1e9
        return told

    def _note(self, write: Callable[[], object]) -> None:
        """Write about something that has happened already; a full disk must not keep the next fault from its heal."""
        try:
            write()
        except HarnessError as error:
            self.failure = self.failure or error
