"""`chaos proxy`: the embedded proxy by itself, in the place of a toxiproxy-server."""

from __future__ import annotations

import asyncio
import gc
import logging

import rich_click as click

from chaos.cli.outcome import answering
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode
from chaos.experiment.seeds import SEED_MAX, draw_seed

PORT = 8474
"""Toxiproxy's port."""

PORT_MAX = 65535


# Names with one dash are those of toxiproxy-server, whose flags are Go's.
@click.command("proxy")
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
@answering
def proxy(host: str, port: int, config: str | None, seed: int | None, strict: bool) -> int:
    """Serve Toxiproxy's HTTP API until SIGINT or SIGTERM: a drop-in for toxiproxy-server."""
    from chaos.faults.network.api.alone import read_config, serve
    from chaos.faults.network.pump import new_loop
    from chaos.faults.network.server import raise_descriptor_limit

    specs = read_config(config) if config else []
    root = draw_seed() if seed is None else seed
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    raise_descriptor_limit()
    gc.freeze()  # what was imported lives as long as the process; looking through it again finds nothing

    def _started(address: str) -> None:
        say(f"chaos proxy: API at http://{address}, {len(specs)} proxies, seed {root}")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(host, port, specs, root, strict=strict, started=_started))
    return int(ExitCode.PASS)
