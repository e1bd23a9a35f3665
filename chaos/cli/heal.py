"""`chaos heal`: find and remove what earlier runs left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from chaos.cli.options import AS_JSON
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode

if TYPE_CHECKING:
    from chaos.runner.leftovers import Found, Healed, Leftover


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder of run folders."
)
@click.option("--toxiproxy", "urls", metavar="URL", multiple=True, help="Look into this Toxiproxy, too; repeatable.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@AS_JSON
@answering
def heal(out: Path, urls: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Find and remove what earlier runs left, and say what was done.

    Looks for processes, live data below --out, containers, networks and volumes, and with --toxiproxy for toxics and
    proxies. Touches nothing that is not marked as ours, nor what belongs to a run that is going on. The code is 0
    when nothing is left that could be removed, 6 when something resists.
    """
    import asyncio

    from chaos.runner.leftovers import heal as do

    found, healed = asyncio.run(do(out, urls, dry_run=dry_run))
    code = int(ExitCode.NOT_HEALED if healed.stuck else ExitCode.PASS)
    if as_json:
        echo_json(_document(found, healed, code, dry_run=dry_run))
    else:
        _tell(found, healed, dry_run=dry_run)
    return code


def _tell(found: Found, healed: Healed, *, dry_run: bool) -> None:
    """Say it, a line for each thing: what was done on stdout, what was not on stderr."""
    for remark in found.remarks:
        say(remark, err=True)
    for thing, reason in found.kept:
        say(f"left alone: {thing}: {reason}", err=True)
    if dry_run:
        for thing, _ in found.things:
            say(f"would remove {thing}")
    for thing in healed.removed:
        say(f"removed {thing}")
    for thing, reason in healed.stuck:
        say(f"could not remove {thing}: {reason}", err=True)
    if not found.things:
        say("nothing was left")


def _document(found: Found, healed: Healed, code: int, *, dry_run: bool) -> dict[str, Any]:
    """Return the same as a JSON value."""
    return {
        "exit_code": code,
        "dry_run": dry_run,
        "found": [_item(thing) for thing, _ in found.things],
        "removed": [_item(thing) for thing in healed.removed],
        "stuck": [{**_item(thing), "reason": reason} for thing, reason in healed.stuck],
        "left_alone": [{**_item(thing), "reason": reason} for thing, reason in found.kept],
        "remarks": found.remarks,
    }


def _item(thing: Leftover) -> dict[str, str]:
    return {"kind": thing.kind, "name": thing.name, "run": thing.run}
