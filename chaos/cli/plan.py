"""`chaos plan`: what a run with this seed would do, nothing started."""

from __future__ import annotations

from typing import Any

import rich_click as click

from chaos.cli.options import AS_JSON, DEFAULT_PATHS, PATHS_OR_DEFAULT, SEED, TAGS, chosen_seeds
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode


@click.command()
@PATHS_OR_DEFAULT
@SEED
@TAGS
@AS_JSON
@answering
def plan(paths: tuple[str, ...], seed: int | None, tags: tuple[str, ...], as_json: bool) -> int:
    """Show the schedule of experiments (default: experiments) as a seed resolves it; nothing is started."""
    from chaos.experiment.loader import load
    from chaos.experiment.repeat import repeat_line

    (chosen,) = chosen_seeds(seed, None)
    plans = [item.plan(chosen) for item in load(paths or DEFAULT_PATHS, tags=tags)]
    if as_json:
        echo_json({"exit_code": int(ExitCode.PASS), "plans": [resolved.to_json() for resolved in plans]})
        return int(ExitCode.PASS)
    for resolved in plans:
        document = resolved.to_json()
        say(f"{resolved.experiment.id}  seed {chosen}  {resolved.selector}")
        say(f"    {resolved.experiment.hypothesis}")
        if "trial" in document:
            say(f"    {trial_line(document)}")
        for rule in document["rules"]:
            say(f"    {rule_line(rule)}")
        say(f"    run it: {repeat_line(resolved)}")
    return int(ExitCode.PASS)


def trial_line(document: dict[str, Any]) -> str:
    """Return the trial and the expectation of a finding's plan.json in words."""
    trial, expect = document["trial"], document["expect"]
    given = ", ".join(f"{name}={value}" for name, value in trial.items() if name not in ("kind", "fault"))
    fault = trial.get("fault")
    if fault is not None:
        arguments = ", ".join(f"{name}={value}" for name, value in fault["arguments"].items() if value is not None)
        given += f", fault={fault['kind']}({arguments})"
    versions = ", ".join(expect["versions"])
    return f"{trial['kind']}({given}): expects {' and '.join(expect['outcome'])} of {document['subject']} {versions}"


def rule_line(rule: dict[str, Any]) -> str:
    """Return one rule of a plan.json in words."""
    fault = rule["fault"]
    arguments = ", ".join(f"{name}={value}" for name, value in fault["arguments"].items() if value is not None)
    line = f"{rule['id']}  {_moment(rule['trigger'])}: {fault['kind']}({arguments})"
    return f"{line}, healed {_moment(rule['until'])}" if fault["lasting"] else line


def _moment(moment: dict[str, Any]) -> str:
    match moment:
        case {"at_s": at_s, "drawn_from_s": [low, high]}:
            return f"at {at_s:g}s (drawn from {low:g}s to {high:g}s)"
        case {"at_s": at_s}:
            return f"at {at_s:g}s"
        case {"phase": name, "nth": nth}:
            return f"at {name} number {nth}"
        case {"next": name, "after": count}:
            return f"at the next {name}" + (f", {count} transactions on" if count else "")
        case {"after_s": after_s}:
            return f"after {after_s:g}s"
    return "when the load ends"
