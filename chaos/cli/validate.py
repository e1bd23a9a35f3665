"""`chaos validate`: every mistake of every experiment, nothing started."""

from __future__ import annotations

import rich_click as click

from chaos.cli.options import AS_JSON, DEFAULT_PATHS, PATHS_OR_DEFAULT, require_sense
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.errors import PlanError
from chaos.exit_codes import ExitCode
from chaos.experiment.venues import BACKENDS, DEFAULT_BACKEND, DEFAULT_FILES, DEFAULT_PROXY, FILES, PROXIES


@click.command()
@PATHS_OR_DEFAULT
@click.option("--backend", type=click.Choice(BACKENDS), help="Tell also what this backend cannot do.")
@click.option("--proxy", type=click.Choice(PROXIES), help="Tell also what this proxy cannot do.")
@click.option("--files", type=click.Choice(FILES), help="Tell also what this way of file faults cannot do here.")
@AS_JSON
@answering
def validate(paths: tuple[str, ...], backend: str | None, proxy: str | None, files: str | None, as_json: bool) -> int:
    """Look for mistakes in files and folders of experiments (default: experiments); nothing is started.

    All problems are told at once, each with file and line; the code is 2 when there is one.
    """
    from chaos.experiment.loader import load
    from chaos.experiment.reach import reach
    from chaos.experiment.validate import STORES
    from chaos.experiment.venues import provider

    require_sense(backend or DEFAULT_BACKEND, proxy or DEFAULT_PROXY)
    loaded = load(paths or DEFAULT_PATHS)
    if backend or proxy or files:
        name = provider(backend or DEFAULT_BACKEND, proxy or DEFAULT_PROXY)
        by = reach(STORES, backend=backend or DEFAULT_BACKEND, files=files or DEFAULT_FILES) if files else None
        problems = [problem for item in loaded for problem in item.refused_by(name, by)]
        if problems:
            raise PlanError(problems)
    ids = [item.experiment.id for item in loaded]
    if as_json:
        echo_json({"exit_code": int(ExitCode.PASS), "valid": ids, "problems": []})
    else:
        say(f"{len(ids)} valid: {', '.join(ids)}")
    return int(ExitCode.PASS)
