"""`chaos doctor`: what is here, and what each backend, engine and fault still needs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from chaos.cli.options import AS_JSON
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode

_COLOURS = {"ok": "green", "absent": "yellow", "broken": "red"}


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of run folders."
)
@AS_JSON
@answering
def doctor(out: Path, as_json: bool) -> int:
    """Look what is here and what is missing, with the way to get it.

    The code is 0 when experiments can run on the embedded default, else 4.
    """
    from chaos.cli.inspection import inspect

    findings = list(inspect(out))
    lacking = [finding for finding in findings if finding.needed and finding.state != "ok"]
    code = int(ExitCode.NOT_STARTED if lacking else ExitCode.PASS)
    if as_json:
        echo_json({"exit_code": code, "findings": [asdict(finding) for finding in findings]})
        return code
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        state = click.style(f"{finding.state:<6}", fg=_COLOURS[finding.state])
        say(f"{state}  {finding.name:<{width}}  {finding.detail}")
        if finding.state != "ok":
            say(f"{'':<{width + 10}}for {finding.needed_for}: {finding.remedy}")
    names = ", ".join(finding.name for finding in lacking)
    say(f"the embedded default cannot run without: {names}" if lacking else "the embedded default can run")
    return code
