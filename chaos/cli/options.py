"""Arguments and options that several verbs share, so that the same thing has the same name everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

from chaos.experiment.seeds import SEED_MAX, draw_seed, parse_seeds
from chaos.experiment.venues import BACKENDS, DEFAULT_BACKEND, DEFAULT_FILES, DEFAULT_PROXY, FILES, PROXIES

F = TypeVar("F", bound=Callable[..., Any])

PATHS = click.argument("paths", metavar="PATH...", nargs=-1, required=True)
PATHS_OR_DEFAULT = click.argument("paths", metavar="[PATH]...", nargs=-1)
TAGS = click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only experiments with this tag; repeatable.")
SEED = click.option("--seed", type=click.IntRange(0, SEED_MAX), help="Seed of the run; drawn and printed when absent.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, all else on stderr.")

BACKEND = click.option(
    "--backend", type=click.Choice(BACKENDS), default=DEFAULT_BACKEND, show_default=True, help="Where the stores run."
)
PROXY = click.option(
    "--proxy",
    type=click.Choice(PROXIES),
    default=DEFAULT_PROXY,
    show_default=True,
    help="What stands before an embedded Redis; containers always have a Toxiproxy.",
)
FILES_BY = click.option(
    "--files",
    type=click.Choice(FILES),
    default=DEFAULT_FILES,
    show_default=True,
    help="How file faults get into a store's process: by the preloaded shim, or by strace.",
)

DEFAULT_PATHS = ("experiments",)
"""Where verbs that start nothing look when no path is given."""


class Seeds(click.ParamType[tuple[int, ...]]):
    """A list or range of seeds: 7, 1,2,3 or 1..20."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the text; a usage error says the accepted forms."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_seeds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def chosen_seeds(seed: int | None, seeds: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the seeds to run: those asked for, else one that is drawn. Both at once is a usage error."""
    if seed is not None and seeds is not None:
        raise click.UsageError("--seed and --seeds exclude each other; give one of them")
    if seeds is not None:
        return seeds
    return (draw_seed() if seed is None else seed,)


def require_sense(backend: str, proxy: str, *, wire: bool = False) -> None:
    """Refuse a proxy of its own for a backend that brings one, and a journal of frames where nobody reads them."""
    if backend != DEFAULT_BACKEND and proxy != DEFAULT_PROXY:
        raise click.UsageError(f"--backend {backend} brings its own Toxiproxy; leave --proxy {proxy} out")
    if wire and (backend, proxy) != (DEFAULT_BACKEND, DEFAULT_PROXY):
        raise click.UsageError("a Toxiproxy reads no frames; use --wire with the embedded backend and proxy")
