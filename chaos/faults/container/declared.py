"""What the container faults share: a store whose server is in a container, and the lever on that container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chaos.errors import Problem
from chaos.faults.base import ContainerLever, Fault, Levers

STORES = ("redis",)
"""The stores that have a server of their own; the others are files and live in the system's own process."""


@dataclass(frozen=True)
class ContainerFault(Fault):
    """Base of faults on the container of `store`."""

    store: str

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless the store is one with a server."""
        yield from self.bad_choice("store", STORES, "no-container")

    def refused_by(self, provider: str) -> str | None:
        """Only a server in a container can be treated as one."""
        return None if provider == "docker" else "its server is not in a container"

    def lever(self, levers: Levers) -> ContainerLever:
        """Return the container; raises EnvironmentUnavailable when the server is not in one."""
        return levers.container(self.store)
