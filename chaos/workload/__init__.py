"""What the clients do. One workload per module; `load` makes one again from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.workload.base import Workload
from chaos.workload.transfers import Transfers

__all__ = ["KINDS", "Transfers", "Workload", "load"]

_KINDS = {"transfers": Transfers.from_config}

KINDS = tuple(_KINDS)
"""What `to_config()["kind"]` may be."""


def load(config: Mapping[str, Any]) -> Workload:
    """Make the workload that `to_config` described. Raises KeyError for an unknown kind."""
    return _KINDS[config["kind"]](config)
