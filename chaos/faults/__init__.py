"""Every fault that an experiment can declare. A new fault is one file, one test and one section in the reference."""

from __future__ import annotations

from chaos.faults.base import Fault
from chaos.faults.container import MemoryLimit, NetworkDisconnect, Restart, SlowStart, Stop
from chaos.faults.disk.faults import DiskDelay, DiskError, DiskFull, KillAtCall, ShortWrite
from chaos.faults.disk.power import PowerLoss
from chaos.faults.network import (
    Bandwidth,
    Cut,
    Delay,
    Disconnect,
    Drop,
    DropSyn,
    Duplicate,
    Flapping,
    Forge,
    Hold,
    Latency,
    Limit,
    Loss,
    Noop,
    OnCommand,
    Partition,
    Refuse,
    ResetOnAccept,
    Seen,
    Slicer,
    SlowAccept,
    SlowClose,
    Timeout,
)
from chaos.faults.process import Kill, Pause

__all__ = [
    "Bandwidth",
    "Cut",
    "Delay",
    "Disconnect",
    "DiskDelay",
    "DiskError",
    "DiskFull",
    "Drop",
    "DropSyn",
    "Duplicate",
    "Fault",
    "Flapping",
    "Forge",
    "Hold",
    "Kill",
    "KillAtCall",
    "Latency",
    "Limit",
    "Loss",
    "MemoryLimit",
    "NetworkDisconnect",
    "Noop",
    "OnCommand",
    "Partition",
    "Pause",
    "PowerLoss",
    "Refuse",
    "ResetOnAccept",
    "Restart",
    "Seen",
    "ShortWrite",
    "Slicer",
    "SlowAccept",
    "SlowClose",
    "SlowStart",
    "Stop",
    "Timeout",
]
