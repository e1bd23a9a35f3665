"""What the clients do. One workload per module; `load` makes one again from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.workload.appends import Appends
from chaos.workload.base import Workload
from chaos.workload.cached import Cached
from chaos.workload.links import Links
from chaos.workload.on_call import OnCall
from chaos.workload.queries import Queries
from chaos.workload.registers import Registers
from chaos.workload.registration import Registration
from chaos.workload.shape import kind_of
from chaos.workload.tallies import Counters, Sets
from chaos.workload.transfers import Transfers

__all__ = [
    "KINDS",
    "Appends",
    "Cached",
    "Counters",
    "Links",
    "OnCall",
    "Queries",
    "Registers",
    "Registration",
    "Sets",
    "Transfers",
    "Workload",
    "load",
]

_CLASSES = (Appends, Cached, Counters, Links, OnCall, Queries, Registers, Registration, Sets, Transfers)
_BY_KIND = {kind_of(workload): workload for workload in _CLASSES}

KINDS = tuple(_BY_KIND)
"""What `to_config()["kind"]` may be."""


def load(config: Mapping[str, Any]) -> Workload:
    """Make the workload that `to_config` described. Raises KeyError for an unknown kind."""
    workload: Workload = _BY_KIND[config["kind"]].from_config(config)
    return workload
