"""What a finding can be about, and which version of it is here."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from functools import partial

from chaos.errors import EnvironmentUnavailable

_SERVER = re.compile(r"\b(redis|valkey|keydb|dragonfly)\b.*?\bv=(\d[\w.]*)", re.IGNORECASE)


def version_of(subject: str) -> str:
    """Return the version of a name in `SUBJECTS`, such as "0.11.3", or "valkey 9.1.2" of a server.

    Raises EnvironmentUnavailable, with the remedy, when it is not here.
    """
    return SUBJECTS[subject]()


def _distribution(name: str, remedy: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise EnvironmentUnavailable(f"{name} is not installed", remedy) from None


def _server() -> str:
    from chaos.backends.redis_server import find_server

    binary = find_server()
    said = binary.version()
    match = _SERVER.search(said)
    if match is None:
        raise EnvironmentUnavailable(f"{binary.path} does not tell its version: {said}", "see `chaos doctor`")
    return f"{match[1].lower()} {match[2]}"


SUBJECTS: Mapping[str, Callable[[], str]] = {
    "kuzu": partial(_distribution, "kuzu", "pip install kuzu"),
    "ladybug": partial(_distribution, "ladybug", "pip install 'chaos-harness[ladybug]'"),
    "redis-py": partial(_distribution, "redis", "pip install redis"),
    "server": _server,
}
"""Every subject with what tells its version: two graph engines, the Redis client, and the Redis-compatible server."""
