"""Faults of the network between the system under test and a store: declared here, carried out by a proxy process.

A file per kind holds both halves: the value that a user declares, and the toxic that acts inside the proxy.
"""

from __future__ import annotations

from chaos.faults.network.disconnect import Disconnect
from chaos.faults.network.latency import Latency
from chaos.faults.network.partition import Partition
from chaos.faults.network.refuse import Refuse

__all__ = ["Disconnect", "Latency", "Partition", "Refuse"]
