"""The exploration of a recording: which states there are, which of them are looked at, and what they showed."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from chaos._seeds import stream
from chaos.crashpoints import findings, recipes, recovery
from chaos.crashpoints.bench import Bench, Candidate, Case, Recording, Result
from chaos.crashpoints.checker import Checker
from chaos.crashpoints.judge import Judgement, Observation, Outcome
from chaos.crashpoints.ledger import Ledger
from chaos.crashpoints.pool import Pool, Serve
from chaos.crashpoints.promises import promises
from chaos.crashpoints.recipes import KINDS
from chaos.crashpoints.shrink import shrink
from chaos.crashpoints.targets.base import Target

_BLOCKS_PER_JOB = 8
_ROUND_PER_JOB = 256
_CHUNK = 64
_FINDINGS_MAX = 40

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Budget:
    """How much may be looked at: a number of states, or seconds of looking. None: no bound."""

    states: int | None = None
    seconds: float | None = None


@dataclass
class Counts:
    """How many states were made, were different in what they hold, and were looked at, by kind.

    again_*: states that a crash during one of the `recoveries` leaves. fresh: those looked at now, in `seconds`.
    """

    made: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    unique: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    looked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    again_unique: int = 0
    again_looked: int = 0
    recoveries: int = 0
    fresh: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What to explore, with what, and where the evidence goes. `again`: recoveries to crash, and states of each.

    phase, crash, after: only states of crashes within that phase of the workload, of that kind ("process crash" or
    "power loss"), None for all; and only from the first operation on whose words fit the glob `after`.
    """

    recording: Recording
    target: Target
    seed: int
    draws: int
    jobs: int
    budget: Budget
    again: tuple[int, int]
    limit_s: float | None
    folder: Path
    scratch: Path
    phase: str | None = None
    crash: str | None = None
    after: str = "*"


def explore(plan: Plan, known: Sequence[Result], ledger: Ledger, tell: Tell) -> tuple[Counts, list[Result]]:
    """Look at the states of a recording and return all results, those `known` from before included.

    Every kind gets the same share of the budget until it is used up; within a kind the order is drawn from the seed.
    """
    counts = Counts()
    results = list(known)
    with Pool(plan.jobs, lambda number: _worker(plan, number)) as pool:
        cases = _enumerate(plan, pool, counts)
        tell(f"{sum(counts.made.values())} states, {len(cases)} of them different")
        kinds = {case.digest: _kind(case) for case in cases}
        done = {result.digest for result in known if not _is_second(result)} & kinds.keys()
        for digest in done:
            counts.looked[kinds[digest]] += 1
        order = _order([case for case in cases if case.digest not in done], plan.seed)
        began = time.monotonic()
        limit = len(order) if plan.budget.states is None else max(0, plan.budget.states - len(done))
        for found in _look(plan, pool, order[:limit], began):
            results += found
            ledger.note(found)
            counts.fresh += len(found)
            for result in found:
                counts.looked[kinds[result.digest]] += 1
        counts.seconds = time.monotonic() - began
        if not any(map(_is_second, known)):
            results += _again(plan, pool, _sound(cases, results), counts, ledger)
    return counts, results


def look_again(plan: Plan, state: str) -> tuple[Observation, Judgement, list[str]]:
    """Make one state again and look at it: what was seen, the judgement, and what it lacks in words."""
    with Pool(1, lambda number: _worker(plan, number)) as pool:
        [(_, (seen, judgement))] = pool.run([("observe", state)])
    first = recipes.parse(state)[0]
    bench = _bench(plan, plan.scratch / "evidence")
    return seen, judgement, findings.missing_in_words(bench, first) if first.is_power_loss else []


def conclude(plan: Plan, results: Iterable[Result], repeat: Callable[[str], str]) -> list[findings.Finding]:
    """Gather what was found, make each as small as possible, and write a folder for each of the gravest."""
    gathered = findings.gather(results)
    requests = [("shrink", number, one.state, str(one.outcome)) for number, one in enumerate(gathered[:_FINDINGS_MAX])]
    with Pool(min(plan.jobs, max(1, len(requests))), lambda number: _worker(plan, number)) as pool:
        for (_, number, *_), minimal in pool.run(requests):
            gathered[number].minimal = minimal
    bench = _bench(plan, plan.scratch / "evidence")
    for number, one in enumerate(gathered[:_FINDINGS_MAX], 1):
        folder = plan.folder / "violations" / findings.folder_name(number, one)
        findings.write_folder(_scenes(plan, bench, one), one, folder, repeat(one.state))
    return gathered


def _scenes(plan: Plan, bench: Bench, finding: findings.Finding) -> list[findings.Scene]:
    """Return the crashes of a finding in order; recoveries are read from where they were recorded."""
    chain, minimal = recipes.parse(finding.state), recipes.parse(finding.minimal or finding.state)
    scenes = []
    for number, (one, smallest) in enumerate(zip(chain, minimal, strict=True)):
        if number:
            bench = recovery.inner_bench(bench, chain[number - 1], plan.scratch, plan.folder / recovery.LOG_FOLDER)
        scenes.append(findings.Scene(bench, one, smallest))
    return scenes


def _enumerate(plan: Plan, pool: Pool, counts: Counts) -> list[Case]:
    """Return every different content with all ways to come to it; ways that promise the same count once."""
    boundaries = len(plan.recording.operations) + 1
    step = max(1, -(-boundaries // (plan.jobs * _BLOCKS_PER_JOB)))
    requests = [("enumerate", low, min(low + step, boundaries)) for low in range(0, boundaries, step)]
    blocks: dict[int, list[Candidate]] = {}
    for (_, low, _), (candidates, made) in pool.run(requests):
        blocks[low] = candidates
        for kind, count in made.items():
            counts.made[kind] += count
    best: dict[bytes, dict[int, Candidate]] = {}
    for low in sorted(blocks):
        for one in blocks[low]:
            ways = best.setdefault(one.digest, {})
            if one.promise not in ways or one.rank < ways[one.promise].rank:
                ways[one.promise] = one
    cases = list(_wanted(plan, _cases(best, one_by_one=plan.target.reads_promise)))
    for case in cases:
        counts.unique[_kind(case)] += 1
    return cases


def _wanted(plan: Plan, cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases whose mildest way is a crash of the phase and kind asked for, with such ways only."""
    boundaries = _boundaries(plan)

    def _is_wanted(recipe: str) -> bool:
        return recipes.parse(recipe)[0].boundary in boundaries and plan.crash in (None, findings.crash_of(recipe))

    for case in cases:
        if _is_wanted(case.ways[0][0]):
            yield Case(case.digest, [way for way in case.ways if _is_wanted(way[0])])


def _boundaries(plan: Plan) -> set[int]:
    """Return the boundaries of the phase asked for, from the operation on that was asked for."""
    operations = plan.recording.operations
    told = [promise.phase for promise in promises(operations, plan.recording.first)]
    inside = [at for at in range(len(told)) if plan.phase is None or told[at] == plan.phase]
    if plan.after == "*":
        return set(inside)
    found = (at for at in inside if at and fnmatch.fnmatchcase(findings.line_of(operations[at - 1]), plan.after))
    first = next(found, len(told))
    return {at for at in inside if at >= first}


def _cases(best: dict[bytes, dict[int, Candidate]], *, one_by_one: bool) -> Iterator[Case]:
    """Yield a case per content, or one per content and promise where the look itself depends on the promise."""
    for digest, ways in best.items():
        ordered = sorted(ways.values(), key=lambda one: one.rank)
        pairs = [(one.recipe, one.promise) for one in ordered]
        if one_by_one:
            for pair in pairs:
                yield Case(digest + pair[1].to_bytes(4, "big"), [pair])
        else:
            yield Case(digest, pairs)


def _order(cases: Sequence[Case], seed: int) -> list[Case]:
    """Return the cases in the order in which they are looked at: by turns one of each kind."""
    rng: Random = stream(seed, "order")
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        kinds.setdefault(_kind(case), []).append(case)
    for members in kinds.values():
        rng.shuffle(members)
    placed = [(place, KINDS.index(kind), case) for kind, members in kinds.items() for place, case in enumerate(members)]
    return [case for _, _, case in sorted(placed, key=lambda item: item[:2])]


def _look(plan: Plan, pool: Pool, order: Sequence[Case], began: float) -> Iterator[list[Result]]:
    """Look at cases in rounds; within a round by boundary, so that the benches move forward."""
    seconds = plan.budget.seconds

    def _over() -> bool:
        return seconds is not None and time.monotonic() - began > seconds

    size = plan.jobs * _ROUND_PER_JOB
    for low in range(0, len(order), size):
        cases = sorted(order[low : low + size], key=_boundary)
        chunk = min(_CHUNK, max(1, -(-len(cases) // plan.jobs)))
        requests = [("look", cases[at : at + chunk]) for at in range(0, len(cases), chunk)]
        for _, found in pool.run(requests, until=_over):
            yield found
        if _over():
            return


def _sound(cases: Sequence[Case], results: Iterable[Result]) -> Sequence[Case]:
    """Return the cases that are known to recover, so that a second crash is to blame for what comes of it.

    When none was looked at, all are taken.
    """
    good = {result.digest for result in results if result.judgement.outcome is Outcome.OK}
    return [case for case in cases if case.digest in good] or cases


def _again(plan: Plan, pool: Pool, cases: Sequence[Case], counts: Counts, ledger: Ledger) -> list[Result]:
    """Record the recovery from a sample of states, and look at what a crash during it leaves.

    Where the states begin with an operation that was asked for, the earliest are taken: they have most before them.
    """
    count, each = plan.again
    order = _order(cases, plan.seed + 1)
    if plan.after != "*":
        order.sort(key=_boundary)
    order = order[:count]
    results: list[Result] = []
    requests = [("again", case.ways[0][0], each) for case in order]
    for _, (found, unique) in pool.run(requests):
        counts.recoveries += 1
        counts.again_unique += unique
        counts.again_looked += len(found)
        ledger.note(found)
        results += found
    return results


def _boundary(case: Case) -> int:
    return recipes.parse(case.ways[0][0])[0].boundary


def _is_second(result: Result) -> bool:
    return ">" in result.recipe


def _kind(case: Case) -> str:
    return recipes.parse(case.ways[0][0])[0].kind


def _bench(plan: Plan, folder: Path) -> Bench:
    checker = Checker(plan.target, folder, limit_s=plan.limit_s)
    return Bench(plan.recording, plan.target, checker, seed=plan.seed, draws=plan.draws)


def _worker(plan: Plan, number: int) -> Serve:
    """Return what worker `number` answers requests with."""
    folder = plan.scratch / f"worker-{number}"
    # Here and not in the explorer: a graph engine stays out of it, and two of them never meet.
    plan.target.preload(folder / "preload")
    bench = _bench(plan, folder)
    kept = plan.folder / recovery.LOG_FOLDER
    power_at = frozenset() if plan.crash == findings.PROCESS_CRASH else _boundaries(plan)

    def _serve(request: Any) -> Any:
        match request:
            case "enumerate", low, high:
                return bench.candidates(range(low, high), power_at)
            case "look", cases:
                return list(bench.results([(case, _ways(case)) for case in cases]))
            case "observe", state:
                return recovery.observe(bench, recipes.parse(state), folder, kept)
            case "again", recipe, count:
                first = recipes.parse(recipe)[0]
                return recovery.crash_again(
                    bench, first, count, folder, kept, power=plan.crash != findings.PROCESS_CRASH
                )
            case "shrink", _, state, outcome:
                *earlier, last = recipes.parse(state)
                inner = bench
                for recipe in earlier:
                    inner = recovery.inner_bench(inner, recipe, folder, kept)
                return ">".join(map(str, (*earlier, shrink(inner, last, Outcome(outcome)))))
        raise AssertionError(request)

    return _serve


def _ways(case: Case) -> list[recipes.Recipe]:
    return [recipes.parse(recipe)[0] for recipe, _ in case.ways]
