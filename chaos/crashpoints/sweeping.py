"""A sweep as the command runs it: its folder, its summary, and one call again."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import msgspec

from chaos.crashpoints import recording, sweep
from chaos.crashpoints.explorer import Tell
from chaos.crashpoints.judge import Outcome
from chaos.crashpoints.recording import NoVerdict
from chaos.crashpoints.scratch import scratch
from chaos.crashpoints.session import Options, header_of, new_folder, target_of
from chaos.crashpoints.sweep import Failed
from chaos.errors import PlanError, Problem
from chaos.exit_codes import ExitCode

_RUNS = 400
"""How many runs a sweep makes when the budget names no number."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A failure that broke a promise: the call, what it showed, how many calls show the same, and what repeats it."""

    call: str
    outcome: Outcome
    detail: str
    calls: int
    noticed: bool
    repeat: str


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a sweep.

    calls: how many the workload makes of each kind. runs: with how many of them it was run again, failing; of those,
    how many were hit, were noticed by a step of the workload, and were absorbed, with the data as promised.
    """

    target: str
    folder: str
    verdict: str
    exit_code: int
    note: str = ""
    calls: dict[str, int] = {}
    runs: int = 0
    hit: int = 0
    noticed: int = 0
    absorbed: int = 0
    findings: list[Example] = []


def run(options: Options, tell: Tell) -> Swept:
    """Sweep a target. Raises PlanError, EnvironmentUnavailable or HarnessError."""
    header = header_of(options)
    target = target_of(header)
    target.demand()
    recording.demand_shim()
    folder = new_folder(options, target)
    counts: dict[str, int] = {}
    failures: list[Failed] = []
    budget = options.budget.states or _RUNS
    with scratch(folder) as place:
        try:
            for found, failed in sweep.sweep(
                target, place, jobs=options.jobs, budget=budget, limit_s=options.limit_s, tell=tell
            ):
                counts = found
                failures.append(failed)
        except NoVerdict as error:
            code = int(ExitCode.INCONCLUSIVE)
            return Swept(
                target=header.target, folder=str(folder), verdict="no verdict", exit_code=code, note=str(error)
            )
    swept = _summary(header.target, folder, counts, failures)
    (folder / "sweep.json").write_bytes(msgspec.json.format(msgspec.json.encode(swept)) + b"\n")
    with (folder / "calls.jsonl").open("wb") as file:
        file.writelines(msgspec.json.encode(failed) + b"\n" for failed in failures)
    return swept


def run_again(options: Options, text: str) -> tuple[int, list[str]]:
    """Let one call fail again; return an exit code and lines, and keep the folder that it left."""
    try:
        call = sweep.parse(text)
    except ValueError as error:
        raise PlanError([Problem(options.target, 0, str(error), "copy the line of a finding", "bad-state")]) from error
    target = target_of(header_of(options))
    target.demand()
    recording.demand_shim()
    folder = new_folder(options, target)
    with scratch(folder) as place:
        failed = sweep.once(target, place, call, limit_s=options.limit_s)
        shutil.copytree(place / sweep.PLACE / "data", folder / "state", symlinks=True)
    detail = f": {failed.judgement.detail}" if failed.judgement.detail else ""
    lines = [
        f"{call}: {failed.judgement.outcome}{detail}",
        f"  {failed.fired} calls failed; the workload {'noticed' if failed.noticed else 'did not notice'}",
        f"  {failed.words}",
        f"  folder: {folder}",
    ]
    if not failed.fired:
        return int(ExitCode.INCONCLUSIVE), lines
    return int(ExitCode.PASS if failed.judgement.outcome is Outcome.OK else ExitCode.CHECK_FAILED), lines


def _summary(target: str, folder: Path, counts: dict[str, int], failures: list[Failed]) -> Swept:
    hit = [failed for failed in failures if failed.fired]
    examples = [
        Example(
            call=str(failed.call),
            outcome=failed.judgement.outcome,
            detail=failed.judgement.detail,
            calls=count,
            noticed=failed.noticed,
            repeat=shlex.join(["chaos", "explore", target, "--sweep", "--state", str(failed.call)]),
        )
        for failed, count in sweep.worst(failures)
    ]
    verdict, code = ("violations", ExitCode.CHECK_FAILED) if examples else ("clean", ExitCode.PASS)
    if not hit:
        verdict, code = "nothing explored", ExitCode.INCONCLUSIVE
    return Swept(
        target=target,
        folder=str(folder),
        verdict=verdict,
        exit_code=int(code),
        calls=counts,
        runs=len(failures),
        hit=len(hit),
        noticed=sum(failed.noticed for failed in hit),
        absorbed=sum(not failed.noticed and failed.judgement.outcome is Outcome.OK for failed in hit),
        findings=examples,
    )
