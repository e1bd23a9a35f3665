"""Where a run can take place: the names that command line, pytest plugin and run folders share.

A backend says where the servers are, a proxy what stands in front of them. What faults ask is who provides the
network faults: our own proxy ("embedded"), a Toxiproxy in front of our own server ("toxiproxy"), or a Toxiproxy
and a server in containers ("docker").

Imports nothing, so that a command line that only wants its choices stays quick.
"""

from __future__ import annotations

BACKENDS = ("embedded", "docker", "compose")
PROXIES = ("embedded", "toxiproxy")
DEFAULT_BACKEND = "embedded"
DEFAULT_PROXY = "embedded"

FILES = ("auto", "preload", "strace")
"""How file faults get into a process; "auto" preloads the shim where that works and takes strace elsewhere."""

DEFAULT_FILES = "auto"

PROVIDERS = {
    "embedded": "--backend embedded (the default)",
    "toxiproxy": "--proxy toxiproxy",
    "docker": "--backend docker or compose",
}
"""Providers by name, each with how a command line asks for it."""


def provider(backend: str = DEFAULT_BACKEND, proxy: str = DEFAULT_PROXY) -> str:
    """Return the provider behind the two options; containers always have a Toxiproxy before them."""
    return proxy if backend == DEFAULT_BACKEND else "docker"
