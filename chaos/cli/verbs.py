"""The command group: every verb under its name."""

from __future__ import annotations

import rich_click as click

from chaos import __version__
from chaos.cli.check import check
from chaos.cli.doctor import doctor
from chaos.cli.explore import explore
from chaos.cli.heal import heal
from chaos.cli.images import images
from chaos.cli.list import list_experiments
from chaos.cli.plan import plan
from chaos.cli.proxy import proxy
from chaos.cli.run import run
from chaos.cli.show import show
from chaos.cli.validate import validate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chaos-harness")
def chaos() -> None:
    """Inject faults into systems that keep one truth in Redis, a graph and SQLite, and judge what they did.

    Exit codes: 0 pass · 1 a check failed · 2 usage or invalid experiment · 3 inconclusive · 4 not started ·
    5 nothing selected · 6 not healed · 70 the harness failed · 128+n after signal n.
    """


for _verb in (run, list_experiments, validate, plan, check, show, explore, heal, doctor, images, proxy):
    chaos.add_command(_verb)
