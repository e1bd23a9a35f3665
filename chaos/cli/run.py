"""`chaos run`: the experiments, one after the other, each with its seed first and last."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from chaos.cli.options import AS_JSON, BACKEND, FILES_BY, PATHS, PROXY, SEED, TAGS, Seeds, chosen_seeds, require_sense
from chaos.cli.outcome import answering, echo_json, told
from chaos.cli.speech import say
from chaos.errors import EnvironmentUnavailable, NothingSelected
from chaos.exit_codes import ExitCode, merge

if TYPE_CHECKING:
    from chaos.errors import Problem
    from chaos.experiment.finding import FindingPlan
    from chaos.experiment.loader import Loaded
    from chaos.experiment.plan import Plan
    from chaos.runner.api import RunOptions, RunResult

GRAPHS = ("kuzu", "ladybug")
_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


@click.command()
@PATHS
@SEED
@click.option("--seeds", type=Seeds(), help="Several seeds, one run each: 1,2,3 or 1..20.")
@TAGS
@BACKEND
@PROXY
@FILES_BY
@click.option("--graph", type=click.Choice(GRAPHS), help="Graph engine, in place of the experiment's own.")
@click.option("--wire", is_flag=True, help="Keep a journal of every frame between system and Redis.")
@AS_JSON
@click.option("--keep", is_flag=True, help="Keep the stores' files of runs that passed, too.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of run folders."
)
@answering
def run(
    paths: tuple[str, ...],
    seed: int | None,
    seeds: tuple[int, ...] | None,
    tags: tuple[str, ...],
    backend: str,
    proxy: str,
    files: str,
    graph: str | None,
    wire: bool,
    as_json: bool,
    keep: bool,
    out: Path,
) -> int:
    """Run the experiments of files and folders, and judge them.

    PATH is a file, a folder, or file.py::id for one of several experiments in a file.
    """
    from chaos.experiment.loader import load, split
    from chaos.experiment.reach import reach
    from chaos.experiment.validate import STORES
    from chaos.experiment.venues import provider

    chosen = chosen_seeds(seed, seeds)
    require_sense(backend, proxy, wire=wire)
    found = load(paths, tags=tags)
    loaded, refused = split(found, provider(backend, proxy), paths, reach(STORES, backend=backend, files=files))
    _tell_refused(refused)
    if not loaded:
        raise NothingSelected("no experiment is left that can take place here")
    plans = [item.plan(number) for item in loaded for number in chosen]
    options = _options(backend=backend, proxy=proxy, files=files, graph=graph, wire=wire, keep=keep, out=out)
    results = run_all(plans, options, quiet=as_json)
    code = merge(result.exit_code for result in results)
    if as_json:
        not_run = [item.experiment.id for item, _ in refused]
        echo_json({"exit_code": code, "runs": [result_json(result) for result in results], "not_run": not_run})
    elif len(plans) > 1:
        _summarize(results, len(plans))
    return code


def _tell_refused(refused: Sequence[tuple[Loaded, list[Problem]]]) -> None:
    """Say which experiments of a folder are left out, and why."""
    for item, problems in refused:
        say(f"{item.experiment.id}: not run, {problems[0]}", err=True)


def run_all(plans: Sequence[Plan | FindingPlan], options: dict[str, Any], *, quiet: bool) -> list[RunResult]:
    """Run the plans in order and return their results; a signal ends the series with the run it interrupted.

    With `quiet` nothing is printed on stdout, and the seed lines go to stderr.
    """
    from chaos.runner.api import RunOptions

    results: list[RunResult] = []
    for plan in plans:
        result = _run_one(plan, RunOptions(seed=plan.seed, **options), quiet=quiet)
        results.append(result)
        if result.signal is not None:
            break
    return results


def result_json(result: RunResult) -> dict[str, Any]:
    """Return one result as a JSON value."""
    import msgspec

    return {
        "experiment": result.experiment_id,
        "seed": result.seed,
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "folder": None if result.folder is None else str(result.folder),
        "message": result.message,
        "repeat": result.repeat,
        "checks": msgspec.to_builtins(result.verdicts),
    }


def _options(**chosen: Any) -> dict[str, Any]:
    return {**chosen, "argv": tuple(sys.argv)}


def _run_one(plan: Plan | FindingPlan, options: RunOptions, *, quiet: bool) -> RunResult:
    """Run one plan between its two seed lines."""
    from chaos.cli.progress import watching
    from chaos.runner.api import repeat_command, run_blocking

    seed_line = f"seed {plan.seed}  repeat: {repeat_command(plan, options)}"
    say(seed_line, err=quiet)
    try:
        with watching(plan.experiment.id) as progress:
            result = run_blocking(plan, options, progress)
    except Exception as error:  # noqa: BLE001  # one run that breaks the harness must not hide the others
        result = _broken(plan, repeat_command(plan, options), error)
    if not quiet:
        say(_text(result))
    say(seed_line, err=quiet)
    return result


def _broken(plan: Plan | FindingPlan, repeat: str, error: Exception) -> RunResult:
    """Return the result of a run whose runner raised; stderr gets the reason."""
    from chaos.runner.api import RunResult

    say(told(error), err=True)
    absent = isinstance(error, EnvironmentUnavailable)
    verdict, code = ("not_started", ExitCode.NOT_STARTED) if absent else ("harness_failed", ExitCode.HARNESS)
    message = f"{type(error).__name__}: {error}"
    return RunResult(plan.experiment.id, plan.seed, verdict, int(code), None, (), message, repeat)


def _text(result: RunResult) -> str:
    """Return what a person reads about a run: the report, or why there is none, and where the folder is."""
    if result.report:
        return result.report.rstrip("\n")
    lines = [_headline(result)]
    if result.message:
        lines.append(result.message)
    if result.folder is not None:
        lines.append(f"folder: {result.folder}")
    return "\n".join(lines)


def _headline(result: RunResult) -> str:
    words = result.verdict.replace("_", " ").upper()
    return f"{result.experiment_id}: {click.style(words, fg=_COLOURS.get(result.verdict, 'magenta'), bold=True)}"


def _summarize(results: Sequence[RunResult], planned: int) -> None:
    """Print a line for each of several runs, each with the command that repeats it."""
    if len(results) < planned:
        say(f"{planned - len(results)} of {planned} runs were not started", err=True)
    say("")
    for result in results:
        say(f"{_headline(result)}  exit {result.exit_code}  seed {result.seed}  repeat: {result.repeat}")
