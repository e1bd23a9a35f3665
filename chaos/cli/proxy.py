"""`chaos proxy`: the embedded proxy by itself, in the place of a toxiproxy-server."""

from __future__ import annotations

import gc

import rich_click as click

from chaos import __version__
from chaos.cli.outcome import answering
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode
from chaos.experiment.seeds import SEED_MAX, draw_seed

PORT = 8474
"""Toxiproxy's port."""

PORT_MAX = 65535


_SWITCHES = ("version", "proxy-metrics", "runtime-metrics")
_GO_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


class _GoCommand(click.RichCommand):
    """A command whose switches may have a value behind =, as Go's flags may."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn such switches into plain ones, or leave them out."""
        given = []
        for argument in args:
            name, _, value = argument.partition("=")
            if name.lstrip("-") not in _SWITCHES or value not in _GO_BOOLEANS:
                given.append(argument)
            elif _GO_BOOLEANS[value]:
                given.append(name)
        return super().parse_args(ctx, given)


# Names with one dash are those of toxiproxy-server, whose flags are Go's.
@click.command("proxy", cls=_GoCommand)
@click.option("--host", "-host", default="localhost", show_default=True, help="Address of the API; it has no password.")
@click.option("--port", "-port", type=click.IntRange(0, PORT_MAX), default=PORT, show_default=True, help="Its port.")
@click.option("--config", "-config", metavar="FILE", help="JSON array of proxies to begin with, as for /populate.")
@click.option("--seed", "-seed", type=click.IntRange(0, SEED_MAX), help="Seed of the toxics; drawn when absent.")
@click.option("--strict", is_flag=True, help="Show also the empty Logger that Toxiproxy shows with each proxy.")
@click.option(
    "--proxy-metrics",
    "-proxy-metrics",
    is_flag=True,
    expose_value=False,
    help="For toxiproxy-server's sake; /metrics answers with and without it.",
)
@click.option("--runtime-metrics", "-runtime-metrics", is_flag=True, help="Have /metrics tell of this process too.")
@click.option("--version", "-version", is_flag=True, help="Print the version of the API and of this package, and end.")
@answering
def proxy(
    host: str,
    port: int,
    config: str | None,
    seed: int | None,
    strict: bool,
    runtime_metrics: bool,
    version: bool,
) -> int:
    """Serve Toxiproxy's HTTP API until SIGINT or SIGTERM: a drop-in for toxiproxy-server."""
    import asyncio
    import logging

    from chaos.faults.network.api.alone import read_config, serve
    from chaos.faults.network.api.handlers import VERSION
    from chaos.faults.network.pump import new_loop
    from chaos.faults.network.server import raise_descriptor_limit

    if version:
        say(f"toxiproxy-server version {VERSION} (chaos-harness {__version__})")
        return int(ExitCode.PASS)
    specs = read_config(config) if config else []
    root = draw_seed() if seed is None else seed
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    raise_descriptor_limit()
    gc.freeze()  # what was imported lives as long as the process; looking through it again finds nothing

    def _started(address: str) -> None:
        say(f"chaos proxy: API at http://{address}, {len(specs)} proxies, seed {root}")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        serving = serve(host, port, specs, root, strict=strict, runtime_metrics=runtime_metrics, started=_started)
        runner.run(serving)
    return int(ExitCode.PASS)
