"""`chaos validate`: every mistake of every experiment, nothing started."""

from __future__ import annotations

import rich_click as click

from chaos.cli.options import AS_JSON, DEFAULT_PATHS, PATHS_OR_DEFAULT
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode


@click.command()
@PATHS_OR_DEFAULT
@AS_JSON
@answering
def validate(paths: tuple[str, ...], as_json: bool) -> int:
    """Look for mistakes in files and folders of experiments (default: experiments); nothing is started.

    All problems are told at once, each with file and line; the code is 2 when there is one.
    """
    from chaos.experiment.loader import load

    ids = [item.experiment.id for item in load(paths or DEFAULT_PATHS)]
    if as_json:
        echo_json({"exit_code": int(ExitCode.PASS), "valid": ids, "problems": []})
    else:
        say(f"{len(ids)} valid: {', '.join(ids)}")
    return int(ExitCode.PASS)
