"""From a run folder to its judgement: the same for a run that has just ended and for one stored long ago."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from chaos.checkers import Conclusion, Context, Verdict, conclude, guarded, judge, of_plan
from chaos.errors import PlanError, Problem
from chaos.exit_codes import ExitCode
from chaos.history.reader import read
from chaos.metrics import prometheus
from chaos.metrics.of_run import measure
from chaos.report.text import render
from chaos.runner.folder import RunFolder


@dataclass(frozen=True)
class Judged:
    """A judgement: verdict in one word, exit code, the sentence that says why, all verdicts, report and metrics."""

    verdict: str
    exit_code: int
    message: str
    verdicts: tuple[Verdict, ...]
    report: str
    metrics: dict[str, Any]
    metrics_text: str


def judge_folder(folder: Path, run: Mapping[str, Any], *, stopped: str | None = None) -> Judged:
    """Judge the history in `folder` by the checks that its plan names, and by `landed` whether it is named or not.

    `run` is the content of run.json. `stopped` says why the run ended early: then it cannot pass, unless the end is the
    system's own and the failure that was expected. Reads only; raises PlanError when a file is missing or malformed,
    HarnessError when a check itself fails.
    """
    plan_path = folder / "plan.json"
    plan = read_json(plan_path)
    history = read(folder / "history.jsonl")
    context = Context.from_plan(plan, str(plan_path))
    verdicts = judge(history, guarded(of_plan(plan, str(plan_path))), context)
    conclusion = conclude(verdicts, context.expect)
    known_end = context.expect is not None and any(history.events("system_gone"))
    if stopped is not None and conclusion.verdict == "pass" and not known_end:
        conclusion = Conclusion("inconclusive", ExitCode.INCONCLUSIVE, f"inconclusive: {stopped}.")
    told = {**run, "verdict": conclusion.verdict, "exit_code": int(conclusion.exit_code), "stopped": stopped}
    report = render(told, plan, verdicts, conclusion, history)
    metrics = measure(history)
    labels = {"experiment": str(run.get("experiment", "")), "seed": str(run.get("seed", ""))}
    return Judged(
        conclusion.verdict,
        int(conclusion.exit_code),
        conclusion.sentence,
        verdicts,
        report,
        metrics,
        prometheus.text(metrics, labels),
    )


def write_judgement(folder: RunFolder, judged: Judged) -> None:
    """Write report.txt, the metrics, checks/<name>.json (the whole verdict) and checks/<name>.txt (plain words)."""
    folder.write_text("report.txt", judged.report)
    folder.write_json("metrics.json", judged.metrics)
    folder.write_text("metrics.prom", judged.metrics_text)
    for verdict in judged.verdicts:
        whole = msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode() + "\n"
        folder.write_text(f"checks/{verdict.name}.json", whole)
        words = [
            f"{verdict.name}: {verdict.valid}: {verdict.summary}",
            *(witness.text for witness in verdict.witnesses),
        ]
        folder.write_text(f"checks/{verdict.name}.txt", "\n".join(words) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object of a run folder; raises PlanError, with the way out, when that is not possible."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        text = f"cannot be read ({type(error).__name__}: {error})"
        remedy = "name the folder of a run, such as runs/latest"
        raise PlanError([Problem(str(path), 0, text, remedy, "not-a-run")]) from error
    if not isinstance(value, dict):
        raise PlanError([Problem(str(path), 0, "is not a JSON object", "name the folder of a run", "not-a-run")])
    return value
