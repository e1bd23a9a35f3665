"""Every fault that an experiment can declare. A new fault is one file, one test and one row in the reference."""

from __future__ import annotations

from chaos.faults.base import Fault
from chaos.faults.disk.faults import DiskDelay, DiskError, DiskFull, KillAtCall, ShortWrite
from chaos.faults.network import Disconnect, Latency, Partition, Refuse
from chaos.faults.process import Kill, Pause

__all__ = [
    "Disconnect",
    "DiskDelay",
    "DiskError",
    "DiskFull",
    "Fault",
    "Kill",
    "KillAtCall",
    "Latency",
    "Partition",
    "Pause",
    "Refuse",
    "ShortWrite",
]
