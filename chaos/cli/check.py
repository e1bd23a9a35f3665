"""`chaos check`: judge a stored run again, perhaps with newer checkers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from chaos.cli.options import AS_JSON
from chaos.cli.outcome import answering, echo_json
from chaos.errors import PlanError, Problem


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@AS_JSON
@answering
def check(run_folder: Path, as_json: bool) -> int:
    """Judge a stored run again: RUN is a run folder, such as runs/latest.

    Reads its plan.json and history.jsonl, changes nothing, and ends with the code that the run would have now.
    """
    import msgspec

    from chaos.runner.judge import judge_folder

    manifest = _read(run_folder / "run.json")
    _read(run_folder / "plan.json")
    judged = judge_folder(run_folder, manifest, stopped=manifest.get("stopped"))
    if as_json:
        document = {"exit_code": judged.exit_code, "verdict": judged.verdict, "message": judged.message}
        echo_json({**document, "checks": msgspec.to_builtins(judged.verdicts)})
    else:
        click.echo(judged.report.rstrip("\n"))
    return int(judged.exit_code)


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`. Raises PlanError when it is not one: the user chose the folder."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError([_problem(path, f"cannot be read: {error}")]) from error
    if not isinstance(value, dict):
        raise PlanError([_problem(path, "must hold one JSON object")])
    return value


def _problem(path: Path, text: str) -> Problem:
    return Problem(str(path), 0, text, "name the folder of a run, such as runs/latest", "not-a-run")
