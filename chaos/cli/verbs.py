"""The command group: every verb under its name, loaded when it is called.

`chaos --help` needs one sentence of each verb and not the modules behind them, which would double its time.
"""

from __future__ import annotations

from importlib import import_module

import rich_click as click

from chaos import __version__

VERBS = {
    "check": ("check", "Judge a stored run again: RUN is a run folder, such as runs/latest."),
    "doctor": ("doctor", "Look what is here and what is missing, with the way to get it."),
    "explore": (
        "explore",
        "Record a workload's file operations, and reopen every state of the disk that a crash may leave.",
    ),
    "heal": ("heal", "Find and remove what earlier runs left, and say what was done."),
    "images": ("images", "Images for --backend docker and compose."),
    "list": (
        "list_experiments",
        "List the experiments of files and folders (default: experiments), with tags and hypothesis.",
    ),
    "plan": (
        "plan",
        "Show the schedule of experiments (default: experiments) as a seed resolves it; nothing is started.",
    ),
    "proxy": ("proxy", "Serve Toxiproxy's HTTP API until SIGINT or SIGTERM: a drop-in for toxiproxy-server."),
    "run": ("run", "Run the experiments of files and folders, and judge them."),
    "show": (
        "show",
        "Show what happened around the transactions of a run, in order, told by everybody who saw some of it.",
    ),
    "validate": (
        "validate",
        "Look for mistakes in files and folders of experiments (default: experiments); nothing is started.",
    ),
}
"""Verb: the command's name in the module chaos.cli.<verb>, and its first sentence, which a test compares."""


class Verbs(click.RichGroup):
    """A group whose commands are stand-ins with a sentence each, until one of them is called."""

    def load(self, verb: str) -> None:
        """Put the real command in place of its stand-in; a name that is no verb changes nothing."""
        if verb in VERBS:
            self.commands[verb] = getattr(import_module(f"chaos.cli.{verb}"), VERBS[verb][0])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Load the verb that the first word names; click does the rest, wrong names included."""
        self.load(args[0])
        return super().resolve_command(ctx, args)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chaos-harness")
def chaos() -> None:
    """Inject faults into systems that keep one truth in Redis, a graph and SQLite, and judge what they did.

    Exit codes: 0 pass · 1 a check failed · 2 usage or invalid experiment · 3 inconclusive · 4 not started ·
    5 nothing selected · 6 not healed · 70 the harness failed · 128+n after signal n.
    """


for _verb, (_, _sentence) in VERBS.items():
    chaos.add_command(click.Command(_verb, help=_sentence))
