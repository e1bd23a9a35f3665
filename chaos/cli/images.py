"""`chaos images`: the images that the docker backend can use where nothing can be pulled."""

from __future__ import annotations

from dataclasses import asdict

import rich_click as click

from chaos.cli.options import AS_JSON
from chaos.cli.outcome import answering, echo_json
from chaos.cli.speech import say
from chaos.exit_codes import ExitCode


@click.group()
def images() -> None:
    """Images for --backend docker and compose."""


@images.command()
@AS_JSON
@answering
def build(as_json: bool) -> int:
    """Make chaos/valkey:local and chaos/toxiproxy:local from programs of this machine; nothing is pulled.

    An image that is there and holds the same programs is left as it is.
    """
    from chaos.backends.docker.build import build as build_image
    from chaos.backends.docker.build import recipes
    from chaos.backends.docker.client import connect
    from chaos.backends.docker.images import LOCAL

    client = connect()
    try:
        built = [build_image(client, recipe) for recipe in recipes()]
    finally:
        client.close()
    variables = {name: variable for variable, name in LOCAL.items()}
    if as_json:
        done = [{**asdict(image), "variable": variables[image.name]} for image in built]
        echo_json({"exit_code": int(ExitCode.PASS), "images": done})
        return int(ExitCode.PASS)
    for image in built:
        say(f"{image.name}: {'made of' if image.fresh else 'is up to date with'} {', '.join(image.programs)}")
    say(f"use them: export {' '.join(f'{variables[image.name]}={image.name}' for image in built)}")
    return int(ExitCode.PASS)
