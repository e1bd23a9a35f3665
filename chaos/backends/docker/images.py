"""Which images containers are made of: chosen by two variables, official ones by default, told with their digests."""

from __future__ import annotations

import os
from dataclasses import dataclass

import docker
import requests.exceptions
from docker.errors import DockerException, ImageNotFound

from chaos.backends.docker.client import in_words
from chaos.backends.docker.pull import Pull
from chaos.errors import EnvironmentUnavailable

REDIS_VARIABLE = "CHAOS_REDIS_IMAGE"
TOXIPROXY_VARIABLE = "CHAOS_TOXIPROXY_IMAGE"
OFFICIAL = {REDIS_VARIABLE: "redis:7.4", TOXIPROXY_VARIABLE: "ghcr.io/shopify/toxiproxy:2.12.0"}
LOCAL = {REDIS_VARIABLE: "chaos/valkey:local", TOXIPROXY_VARIABLE: "chaos/toxiproxy:local"}
"""What `chaos images build` makes. Nobody else may answer for these names, so they are never pulled."""


@dataclass(frozen=True)
class Image:
    """An image that is here. `digest` is the one its publisher gave it, or the image's own id for one made here."""

    name: str
    digest: str


def chosen(variable: str) -> str:
    """Return the name of the image to use for `variable`: its value, else the official image."""
    return os.environ.get(variable) or OFFICIAL[variable]


def obtain(client: docker.DockerClient, variable: str, pull: Pull) -> Image:
    """Return the image to use, pulled when it is not here. Blocks until it is pulled, or `pull` is called off.

    Raises EnvironmentUnavailable when it is not here and cannot be had.
    """
    name = chosen(variable)
    try:
        try:
            found = client.images.get(name)
        except ImageNotFound:
            if name in LOCAL.values():
                raise EnvironmentUnavailable(f"there is no image {name} yet", "run: chaos images build") from None
            pull(client, name)
            found = client.images.get(name)
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EnvironmentUnavailable(
            f"image {name} is not here and cannot be pulled ({in_words(error)})",
            f"choose another with {variable}; without a registry: run `chaos images build`, and set "
            f"{variable}={LOCAL[variable]}",
        ) from error
    return Image(name, digest(found.attrs))


def digest(attributes: dict[str, object]) -> str:
    """Return the digest to write down for an image that the daemon describes by `attributes`."""
    published = attributes.get("RepoDigests")
    return str(published[0] if isinstance(published, list) and published else attributes.get("Id", ""))
