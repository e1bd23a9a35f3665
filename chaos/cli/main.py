"""The command `chaos`: its verbs, and how whatever happens becomes an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rich_click as click

from chaos import __version__
from chaos.cli.check import check
from chaos.cli.doctor import doctor
from chaos.cli.list import list_experiments
from chaos.cli.plan import plan
from chaos.cli.run import run
from chaos.cli.validate import validate
from chaos.exit_codes import ExitCode

_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chaos-harness")
def chaos() -> None:
    """Inject faults into systems that keep one truth in Redis, a graph and SQLite, and judge what they did.

    Exit codes: 0 pass · 1 a check failed · 2 usage or invalid experiment · 3 inconclusive · 4 not started ·
    5 nothing selected · 6 not healed · 70 the harness failed · 128+n after signal n.
    """


for _verb in (run, list_experiments, validate, plan, check, doctor):
    chaos.add_command(_verb)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, None for that of the process.

    Verbs answer their own errors (`chaos.cli.outcome`); here remain wrong usage and Ctrl-C outside of a run.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = chaos.main(args=words or ["--help"], prog_name="chaos", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    if not words:
        return int(ExitCode.USAGE)
    return code if isinstance(code, int) else int(ExitCode.PASS)
