"""`chaos list`: which experiments there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from chaos.cli.options import AS_JSON, DEFAULT_PATHS, PATHS_OR_DEFAULT, TAGS
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode

if TYPE_CHECKING:
    from chaos.experiment.experiment import Experiment
    from chaos.experiment.finding import Finding


@click.command("list")
@PATHS_OR_DEFAULT
@TAGS
@AS_JSON
@answering
def list_experiments(paths: tuple[str, ...], tags: tuple[str, ...], as_json: bool) -> int:
    """List the experiments of files and folders (default: experiments), with tags and hypothesis."""
    from chaos.experiment.loader import load

    rows = [
        {
            "id": item.experiment.id,
            "path": item.selector,
            "tags": list(item.experiment.tags),
            "hypothesis": item.experiment.hypothesis,
            "expect": _expected(item.experiment),
        }
        for item in load(paths or DEFAULT_PATHS, tags=tags)
    ]
    if as_json:
        echo_json({"exit_code": int(ExitCode.PASS), "experiments": rows})
        return int(ExitCode.PASS)
    for row in rows:
        tags_shown = f"  [{', '.join(row['tags'])}]" if row["tags"] else ""
        say(f"{row['path']}  {row['id']}{tags_shown}")
        say(f"    {row['hypothesis']}")
        if row["expect"]:
            say(f"    expected to fail: {row['expect']}")
    return int(ExitCode.PASS)


def _expected(experiment: Experiment | Finding) -> str | None:
    """Return what is known to fail, in words; of a finding with the versions that do."""
    expect = experiment.expect
    if expect is None:
        return None
    names = ", ".join(expect.names)
    versions = getattr(expect, "versions", ())
    return f"{names} in {getattr(experiment, 'subject', '')} {', '.join(versions)}" if versions else names
