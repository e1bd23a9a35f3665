"""What the clients do. One workload per module; `load` makes one again from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chaos.workload.appends import Appends
from chaos.workload.base import Workload
from chaos.workload.transfers import Transfers

__all__ = ["KINDS", "Appends", "Transfers", "Workload", "load"]

_KINDS: dict[str, Callable[[Mapping[str, Any]], Workload]] = {
    "appends": Appends.from_config,
    "transfers": Transfers.from_config,
}

KINDS = tuple(_KINDS)
"""What `to_config()["kind"]` may be."""


def load(config: Mapping[str, Any]) -> Workload:
    """Make the workload that `to_config` described. Raises KeyError for an unknown kind."""
    return _KINDS[config["kind"]](config)
