"""A second crash, while the store recovers from the first: what a recovery writes is recorded and explored as well."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from chaos._seeds import stream
from chaos.crashpoints import recipes, snapshot, states
from chaos.crashpoints.bench import Bench, Candidate, Case, Recording, Result
from chaos.crashpoints.judge import Judgement, Observation
from chaos.crashpoints.recipes import Recipe
from chaos.crashpoints.recording import relevant, run_recorded
from chaos.faults.disk.oplog import read_log, write_log

LOG_FOLDER = "recoveries"
_BOUNDARIES_MAX = 100


def inner_bench(bench: Bench, recipe: Recipe, folder: Path, kept: Path) -> Bench:
    """Return the bench of the recovery from a state, recorded now, or before when `kept` has it.

    Raises NoVerdict when the recovery did what the model does not know.
    """
    start = bench.tree(recipe).kept()
    log = kept / f"{recipe}.log".replace(":", "_")
    if log.exists():
        operations = relevant(read_log(log), bench.target.ignored)
    else:
        data = folder / "recovering"
        work = folder / "recording"
        shutil.rmtree(work, ignore_errors=True)
        snapshot.clear(data)
        snapshot.write(start, data)
        command = bench.target.command("recover", data)
        everything, _, _ = run_recorded(command, data, work, limit_s=bench.target.limit_s)
        operations = relevant(everything, bench.target.ignored)
        kept.mkdir(exist_ok=True)
        write_log(log, operations)
    recording = Recording(start, operations, bench.promises[recipe.boundary])
    return Bench(recording, bench.target, bench.checker, seed=bench.seed, draws=bench.draws)


def crash_again(
    bench: Bench, recipe: Recipe, count: int, folder: Path, kept: Path, *, power: bool = True
) -> tuple[list[Result], int]:
    """Look at up to `count` states that a crash during the recovery from `recipe` leaves; not of power unless `power`.

    Returns the results, their recipes beginning with this one, and how many different states there are at the
    boundaries that were drawn, which are all of a short recovery.
    """
    inner = inner_bench(bench, recipe, folder, kept)
    boundaries = range(1, len(inner.recording.operations) + 1)
    drawn = stream(bench.seed, "boundaries", str(recipe)).sample(boundaries, min(len(boundaries), _BOUNDARIES_MAX))
    everything, _ = inner.candidates(sorted(drawn), None if power else ())
    unchanged = inner.recording.start.without(states.ignoring(bench.target.ignored)).digest
    candidates = [one for one in everything if one.digest != unchanged]
    chosen = _sample(candidates, count, bench.seed, str(recipe))
    cases = [
        (Case(one.digest, [(one.recipe, one.promise)]), recipes.parse(one.recipe))
        for one in sorted(chosen, key=lambda one: recipes.parse(one.recipe)[0].boundary)
    ]
    found = [
        Result(digest=one.digest, recipe=f"{recipe}>{one.recipe}", judgement=one.judgement, seen=one.seen)
        for one in inner.results(cases)
    ]
    return found, len(candidates)


def observe(bench: Bench, chain: Sequence[Recipe], folder: Path, kept: Path) -> tuple[Observation, Judgement]:
    """Look at one state, or at one that a crash during its recovery left."""
    for recipe in chain[:-1]:
        bench = inner_bench(bench, recipe, folder, kept)
    return bench.observe(chain[-1])


def _sample(candidates: Sequence[Candidate], count: int, seed: int, name: str) -> list[Candidate]:
    """Draw `count` of them, so that process crashes and power losses are both among them."""
    if len(candidates) <= count:
        return list(candidates)
    rng = stream(seed, "second-crash", name)
    crashes = [one for one in candidates if one.rank < 2]
    losses = [one for one in candidates if one.rank >= 2]
    first = rng.sample(crashes, min(len(crashes), count // 2))
    return first + rng.sample(losses, min(len(losses), count - len(first)))
