"""Findings: states that broke a promise, gathered by what they show, each with all that is needed to see it again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from chaos.crashpoints import recipes, snapshot, states
from chaos.crashpoints.bench import Bench, Result
from chaos.crashpoints.judge import Judgement, Outcome
from chaos.crashpoints.recipes import KINDS, Recipe
from chaos.faults.disk.oplog import Kind, Operation

PROCESS_CRASH, POWER_LOSS = "process crash", "power loss"
AGAIN = ", and another during recovery"
BEFORE = "before"
"""The folder with the first of two crashes."""

_AROUND = 12
_NAME_MAX = 40


class Finding(msgspec.Struct, kw_only=True):
    """One thing that goes wrong. state: the recipe of the example. minimal: of the smallest one with that outcome.

    crash: the least that must happen for it, "process crash" or "power loss". states: how many of those looked at
    show it. missing: what the minimal state lacks, in words. folder: where the evidence is.
    """

    outcome: Outcome
    detail: str
    crash: str
    state: str
    minimal: str = ""
    states: int = 0
    missing: list[str] = []
    folder: str = ""


def crash_of(recipe: str) -> str:
    """Return what had to happen for a state: with a second crash, the worse of both."""
    loss = any(one.is_power_loss for one in recipes.parse(recipe))
    again = AGAIN if ">" in recipe else ""
    return (POWER_LOSS if loss else PROCESS_CRASH) + again


def gather(results: Iterable[Result]) -> list[Finding]:
    """Group results by outcome and kind of crash, the gravest first; the example is the earliest that was confirmed.

    Details that differ in numbers only count as the same thing.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.judgement.outcome is not Outcome.OK:
            groups.setdefault((crash_of(result.recipe), result.judgement.signature), []).append(result)
    found = []
    for (crash, _), members in groups.items():
        example = min(members, key=_order)
        judgement = example.judgement
        found.append(
            Finding(
                outcome=judgement.outcome,
                detail=judgement.detail,
                crash=crash,
                state=example.recipe,
                states=len(members),
            )
        )
    order = list(Outcome)
    return sorted(found, key=lambda one: (order.index(one.outcome), one.crash, -one.states))


def _order(result: Result) -> tuple[bool, list[int], list[int]]:
    chain = recipes.parse(result.recipe)
    return not result.confirmed, [KINDS.index(one.kind) for one in chain], [one.boundary for one in chain]


@dataclass(frozen=True)
class Scene:
    """One crash of a finding: the recording that it ended, its state, and the smallest state that shows the same."""

    bench: Bench
    recipe: Recipe
    minimal: Recipe


def write_folder(scenes: Sequence[Scene], finding: Finding, folder: Path, repeat: str) -> None:
    """Write a finding's evidence: the state, the smallest one, the operations around, the promise, how to repeat.

    With a second crash that is the state which the crash during the recovery left, and the recovery's operations; the
    first crash is told in `before/`, in the same way.
    """
    shutil.rmtree(folder, ignore_errors=True)
    *earlier, last = scenes
    finding.missing = missing_in_words(last.bench, last.minimal)
    finding.folder = str(folder)
    _write_scene(last, folder)
    for scene in earlier:
        _write_scene(scene, folder / BEFORE)
    (folder / "finding.json").write_bytes(msgspec.json.format(msgspec.json.encode(finding)) + b"\n")
    told = [*_told(last.bench, finding, last.recipe), *([f"first crash: {BEFORE}/"] if earlier else [])]
    (folder / "finding.txt").write_text("\n".join([*told, "", f"repeat: {repeat}"]) + "\n")


def _write_scene(scene: Scene, folder: Path) -> None:
    for name, one in (("state", scene.recipe), ("minimal", scene.minimal)):
        (folder / name).mkdir(parents=True)
        snapshot.write(scene.bench.tree(one), folder / name)
    lines = _around(scene.bench, scene.recipe, scene.minimal)
    (folder / "operations.txt").write_text("\n".join(lines) + "\n")


def missing_in_words(bench: Bench, recipe: Recipe) -> list[str]:
    """Return a line for each operation that a state lacks."""
    disk = bench.disk_at(recipe.boundary)
    lines = []
    for index, ranges in sorted(states.missing(disk, recipe, seed=bench.seed).items()):
        part = "" if ranges is None else f", bytes {', '.join(f'{low} to {high - 1}' for low, high in ranges)}"
        lines.append(f"{index}: {line_of(bench.recording.operations[index])}{part}")
    return lines


def line_of(operation: Operation) -> str:
    """Return an operation in words: what, name, offset, size."""
    name, other = operation.name or "/", operation.other
    match operation.kind:
        case Kind.WRITE:
            low = operation.offset or 0
            return f"write {name} [{low}, {low + len(operation.payload)})"
        case Kind.TRUNCATE:
            return f"truncate {name} to {operation.size}"
        case Kind.ALLOCATE:
            return f"allocate {name} [{operation.offset or 0}, {(operation.offset or 0) + operation.size})"
        case Kind.RENAME | Kind.LINK | Kind.SYMLINK:
            return f"{operation.kind.name.lower()} {name} -> {other}"
        case Kind.MARKER:
            return f"-- {operation.name}"
    return f"{operation.kind.name.lower()} {name}"


def _around(bench: Bench, recipe: Recipe, minimal: Recipe) -> list[str]:
    """Return the operations before and after the crash, those that the minimal state lacks marked with a minus."""
    lost = states.missing(bench.disk_at(minimal.boundary), minimal, seed=bench.seed)
    operations: Sequence[Operation] = bench.recording.operations
    first, last = max(0, recipe.boundary - _AROUND), min(len(operations), recipe.boundary + _AROUND)
    numbers = sorted({*range(first, last), *(index for index in lost if index < first)})
    lines = []
    for index in numbers:
        if index == recipe.boundary:
            lines.append("       ======== crash ========")
        mark = "-" if index in lost else " "
        lines.append(f"{mark}{index:>6}  {line_of(operations[index])}")
    if recipe.boundary == len(operations):
        lines.append("       ======== crash ========")
    return lines


def _told(bench: Bench, finding: Finding, recipe: Recipe) -> list[str]:
    promise = bench.promises[recipe.boundary]
    open_ones = sorted(promise.begun - promise.acknowledged - promise.aborted)
    lines = [
        f"{finding.outcome} after {finding.crash}",
        finding.detail,
        "",
        f"state: {finding.state}  ({finding.states} of the states looked at show this)",
        f"smallest: {finding.minimal or finding.state}",
        f"promised: {len(promise.acknowledged)} transactions acknowledged, under way: {', '.join(open_ones) or 'none'}",
        f"phase of the workload: {promise.phase or '(not told)'}",
    ]
    if finding.missing:
        lines += ["the smallest state lacks:", *(f"  {line}" for line in finding.missing)]
    return lines


def folder_name(number: int, judgement: Judgement | Finding) -> str:
    """Return the name of a finding's folder."""
    words = f"{judgement.outcome}".replace(" ", "-")[:_NAME_MAX]
    return f"{number:02d}-{words}"
