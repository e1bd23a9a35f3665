"""`chaos show`: what happened in a stored run, transaction by transaction, and how to hit the same frames again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rich_click as click

from chaos.cli.options import AS_JSON
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode

_SHOWN_MAX = 5


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--transaction", metavar="ID", help="Show this transaction, such as c0.12.")
@click.option("--script", is_flag=True, help="Print an experiment that hits the same frames again.")
@AS_JSON
@answering
def show(folder: Path, transaction: str | None, script: bool, as_json: bool) -> int:
    """Show what happened around the transactions of a run, in order, told by everybody who saw some of it.

    Merges what clients and system said (history.jsonl), when faults began and ended (faults.jsonl), and what crossed
    the wire (wire.jsonl). Without --transaction: those that a broken check names, that a rule hit, or that were under
    way when a fault began. Reads only.
    """
    from chaos.history.reader import read
    from chaos.report import timeline
    from chaos.report.wire import read_wire
    from chaos.runner.judge import read_json

    run, plan = read_json(folder / "run.json"), read_json(folder / "plan.json")
    wire = read_wire(folder / "wire.jsonl")
    if script:
        return _script(run, plan, wire, folder)
    history = read(folder / "history.jsonl")
    ledger = _ledger(folder / "faults.jsonl")
    if transaction is not None and transaction not in history.transactions:
        known = ", ".join(list(history.transactions)[:4]) or "none"
        raise click.BadParameter(f"{transaction!r} is no transaction of this run; it has {known} ...", param_hint="ID")
    chosen = [transaction] if transaction is not None else timeline.interesting(history, wire, _witnesses(folder))
    timelines = {token: timeline.of_transaction(history, token, wire, ledger) for token in chosen[:_SHOWN_MAX]}
    if as_json:
        document: dict[str, Any] = {"run": run["folder"], "verdict": run["verdict"], "seed": run["seed"]}
        document["transactions"] = {token: [one.to_json() for one in found] for token, found in timelines.items()}
        if transaction is None:
            document["events"] = [moment.to_json() for moment in timeline.of_run(history, wire, ledger)]
        echo_json(document)
        return int(ExitCode.PASS)
    say(f"{run['experiment']}, seed {run['seed']}: {run['verdict']}")
    say(f"{run['hypothesis']}\nfolder {folder}")
    if wire is None:
        say("no wire.jsonl: only our own proxy keeps one, so what crossed the wire is not known")
    elif not wire.frames:
        say("wire.jsonl has connections and no frames: run with --wire, or with a rule on a command")
    for token, moments in timelines.items():
        say(f"\nTRANSACTION {token}")
        for line in timeline.lines(moments):
            say(line)
    _say_rest(chosen, transaction)
    return int(ExitCode.PASS)


def _say_rest(chosen: list[str], transaction: str | None) -> None:
    """Say what there is beside what was shown."""
    if transaction is None:
        rest = chosen[_SHOWN_MAX:]
        if not chosen:
            say("\nno check is broken, no rule hit a frame, and no transaction was under way when a fault began")
        say(f"\nmore: --transaction ID{f', for example {rest[0]}' if rest else ''}; --json for everything")


def _script(run: dict[str, Any], plan: dict[str, Any], wire: Any, folder: Path) -> int:
    """Print the replay script; a run without a hit has none."""
    from chaos.history.reader import read
    from chaos.report.script import render

    if wire is None or not wire.hits:
        say("no rule on a command hit a frame in this run, so there is nothing to replay", err=True)
        return int(ExitCode.NOTHING_SELECTED)
    say(render(run, plan, wire, read(folder / "history.jsonl")).rstrip("\n"))
    return int(ExitCode.PASS)


def _ledger(path: Path) -> list[dict[str, Any]]:
    """Read the heal ledger; a line that a kill has torn is left out."""
    found = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]


def _witnesses(folder: Path) -> list[str]:
    """Return the transactions that invalid checks name."""
    tokens = []
    for path in sorted((folder / "checks").glob("*.json")):
        verdict = json.loads(path.read_text(encoding="utf-8"))
        if verdict.get("valid") == "invalid":
            tokens += [one["token"] for one in verdict.get("witnesses", ()) if one.get("token")]
    return tokens
