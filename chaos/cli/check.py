"""`chaos check`: judge a stored run again, perhaps with newer checkers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from chaos.cli.options import AS_JSON
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.errors import PlanError, Problem

_WRITTEN = ("experiment", "verdict")
"""What run.json has from its first moment on."""

_JUDGED = ("pass", "fail", "inconclusive")


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@AS_JSON
@answering
def check(run_folder: Path, as_json: bool) -> int:
    """Judge a stored run again: RUN is a run folder, such as runs/latest.

    Reads its plan.json and history.jsonl, changes nothing, and ends with the code that the run would have now.
    """
    import msgspec

    from chaos.runner.finding import judge_again
    from chaos.runner.judge import judge_folder, read_json

    manifest = read_json(run_folder / "run.json")
    _demand_run(run_folder / "run.json", manifest)
    plan = read_json(run_folder / "plan.json")
    if "trial" in plan:
        conclusion, report = judge_again(run_folder, plan, manifest)
        if as_json:
            echo_json({**msgspec.to_builtins(conclusion), "message": conclusion.sentence, "checks": []})
        else:
            say(report.rstrip("\n"))
        return conclusion.exit_code
    judged = judge_folder(run_folder, manifest, stopped=stopped(manifest))
    if as_json:
        document = {"exit_code": judged.exit_code, "verdict": judged.verdict, "message": judged.message}
        echo_json({**document, "checks": msgspec.to_builtins(judged.verdicts)})
    else:
        say(judged.report.rstrip("\n"))
    return judged.exit_code


def _demand_run(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise PlanError when the object in run.json was not written by a run."""
    absent = [name for name in _WRITTEN if name not in manifest]
    if absent:
        text = f"is not written by a run: it lacks {', '.join(absent)}"
        raise PlanError([Problem(str(path), 0, text, "name the folder of a run, such as runs/latest", "not-a-run")])


def stopped(manifest: Mapping[str, Any]) -> str | None:
    """Return why the stored run ended early, so that it cannot pass now; None for one that ran to its end."""
    if manifest.get("stopped"):
        return str(manifest["stopped"])
    verdict = manifest.get("verdict")
    if verdict in _JUDGED:
        return None
    return f"{verdict}: {manifest.get('message') or 'the harness was killed'}"
