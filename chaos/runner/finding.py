"""A run of a finding: its folder, the trial, the conclusion, the report. Blocking, and as harmless as any other run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from chaos.backends.ownership import Owner
from chaos.crashpoints.findings import Finding as Seen
from chaos.crashpoints.trial import Tried, put_to_trial
from chaos.errors import ChaosError, EnvironmentUnavailable, PlanError, Problem
from chaos.experiment.finding import FindingPlan, refuse_elsewhere
from chaos.experiment.needs import demand
from chaos.experiment.subjects import version_of
from chaos.report.finding import render_finding
from chaos.runner.ending import Ending, harness_failed, not_started
from chaos.runner.folder import RunFolder
from chaos.runner.manifest import commit_of, versions
from chaos.runner.result import RunOptions, RunResult, repeat_command
from chaos.runner.strictness import Strict, conclude

SEEN_FILE = "finding.json"
EVIDENCE_FOLDER = "trial"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """finding.json: what a trial showed of which version; enough to judge it again."""

    subject: str
    version: str
    looks: int = 0
    note: str | None = None
    evidence: list[str] = []
    found: list[Seen] = []


class _Interrupted(Exception):
    """A signal came; its number is the argument."""


def run_finding(plan: FindingPlan, options: RunOptions) -> RunResult:
    """Run one finding. Everything that was started is gone when this returns.

    SIGINT, SIGTERM and SIGHUP end it early, with the verdict "interrupted" and exit code 128 + the signal's number.
    Raises PlanError when the options ask for another place or engine.
    """
    refuse_elsewhere(plan.experiment, backend=options.backend, proxy=options.proxy, graph=options.graph)
    repeat = repeat_command(plan, options)
    try:
        demand(plan.experiment)
        folder = RunFolder(options.out, plan.experiment.id, plan.seed)
        folder.prepare()
    except EnvironmentUnavailable as error:
        ending = not_started(error)
        return _result(plan, ending, None, repeat)
    began = time.monotonic()
    run = _first_words(plan, options, folder, repeat)
    folder.write_json("plan.json", plan.to_json())
    folder.write_text("repro.txt", repeat + "\n")
    folder.write_json("run.json", run)
    number: int | None = None
    report: str | None = None
    try:
        with _signals_raise():
            ending, report = _tried(plan, folder, run)
    except _Interrupted as interruption:
        number = int(interruption.args[0])
        ending = Ending("interrupted", 128 + number, f"ended by {signal.Signals(number).name}")
    except EnvironmentUnavailable as error:
        ending = not_started(error)
    except (ChaosError, OSError) as error:
        ending = harness_failed(error)
    finally:
        folder.remove_live()
    run |= {"verdict": ending.verdict, "exit_code": int(ending.exit_code), "message": ending.message}
    folder.write_json("run.json", {**run, "seconds": round(time.monotonic() - began, 3)})
    folder.write_text("report.txt", report or f"{plan.experiment.id}: {ending.verdict}\n\n{ending.message}\n")
    return _result(plan, ending, folder.path, repeat, report=report, number=number)


def judge_again(folder: Path, plan: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[Strict, str]:
    """Judge a stored run of a finding: the conclusion and the report. Raises PlanError when it is not complete."""
    path = folder / SEEN_FILE
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        remedy = "name the folder of a run that came to its end"
        raise PlanError([Problem(str(path), 0, f"cannot be read: {error}", remedy, "not-a-run")]) from error
    conclusion = conclude(plan, record.version, record.found, note=record.note)
    return conclusion, render_finding(run, plan, msgspec.to_builtins(record), conclusion.sentence)


def _tried(plan: FindingPlan, folder: RunFolder, run: Mapping[str, Any]) -> tuple[Ending, str]:
    """Put the steps to their trial, and write down what was seen and what it means."""
    place = folder.path / EVIDENCE_FOLDER
    place.mkdir(mode=0o700)
    tried = put_to_trial(plan, place, _quiet)
    record = _recorded(plan, tried)
    folder.write_text(SEEN_FILE, msgspec.json.format(msgspec.json.encode(record)).decode() + "\n")
    conclusion = conclude(plan.to_json(), record.version, record.found, note=record.note)
    report = render_finding(run, plan.to_json(), msgspec.to_builtins(record), conclusion.sentence)
    return Ending(conclusion.verdict, conclusion.exit_code, conclusion.sentence), report


def _recorded(plan: FindingPlan, tried: Tried) -> Record:
    subject = plan.experiment.subject
    return Record(
        subject=subject,
        version=version_of(subject),
        looks=tried.looks,
        note=tried.note,
        evidence=list(tried.evidence),
        found=list(tried.found),
    )


def _first_words(plan: FindingPlan, options: RunOptions, folder: RunFolder, repeat: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "experiment": plan.experiment.id,
        "hypothesis": plan.experiment.hypothesis,
        "seed": plan.seed,
        "verdict": "running",
        "exit_code": None,
        "message": None,
        "repeat": repeat,
        "argv": list(options.argv),
        "harness": Owner.this().mark,
        "started": folder.started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "seconds": None,
        "folder": str(folder.path),
        "versions": versions(),
        "subject": plan.experiment.subject,
        "commit": commit_of(plan.source.parent),
    }


def _result(
    plan: FindingPlan,
    ending: Ending,
    folder: Path | None,
    repeat: str,
    *,
    report: str | None = None,
    number: int | None = None,
) -> RunResult:
    return RunResult(
        plan.experiment.id,
        plan.seed,
        ending.verdict,
        int(ending.exit_code),
        folder,
        (),
        ending.message,
        repeat,
        report,
        number,
    )


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Let the first signal end the block with an exception; what the block started ends with it. A third ends us."""
    count = 0

    def _on_signal(number: int, _: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise _Interrupted(number)
        if count >= 3:  # as for every other run
            os._exit(128 + number)

    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quiet(_: str) -> None:
    """Say nothing while it goes on: a finding takes seconds."""
