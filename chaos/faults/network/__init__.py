"""Faults of the network between the system under test and a store: declared here, carried out by a proxy process.

A file per kind holds both halves: the value that a user declares, and the toxic that acts inside the proxy.
"""

from __future__ import annotations

from chaos.faults.network.resp import Cut, Delay, Drop, Duplicate, Forge, Hold, OnCommand, Seen
from chaos.faults.network.toxics.bandwidth import Bandwidth
from chaos.faults.network.toxics.disconnect import Disconnect
from chaos.faults.network.toxics.drop_syn import DropSyn
from chaos.faults.network.toxics.flapping import Flapping
from chaos.faults.network.toxics.latency import Latency
from chaos.faults.network.toxics.limit import Limit
from chaos.faults.network.toxics.loss import Loss
from chaos.faults.network.toxics.noop import Noop
from chaos.faults.network.toxics.partition import Partition
from chaos.faults.network.toxics.refuse import Refuse
from chaos.faults.network.toxics.reset_on_accept import ResetOnAccept
from chaos.faults.network.toxics.slicer import Slicer
from chaos.faults.network.toxics.slow_accept import SlowAccept
from chaos.faults.network.toxics.slow_close import SlowClose
from chaos.faults.network.toxics.timeout import Timeout

__all__ = [
    "Bandwidth",
    "Cut",
    "Delay",
    "Disconnect",
    "Drop",
    "DropSyn",
    "Duplicate",
    "Flapping",
    "Forge",
    "Hold",
    "Latency",
    "Limit",
    "Loss",
    "Noop",
    "OnCommand",
    "Partition",
    "Refuse",
    "ResetOnAccept",
    "Seen",
    "Slicer",
    "SlowAccept",
    "SlowClose",
    "Timeout",
]
