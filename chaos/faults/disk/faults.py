"""The file faults: what a user declares."""

from __future__ import annotations

from chaos.faults.disk.failing import DiskError, FsyncFails, FsyncLies
from chaos.faults.disk.fault import DiskFault
from chaos.faults.disk.killing import KillAtCall
from chaos.faults.disk.space import DiskFull
from chaos.faults.disk.timing import DiskDelay
from chaos.faults.disk.transfers import BitRot, LostWrite, MisdirectedWrite, ShortRead, ShortWrite, TornWrite

__all__ = [
    "BitRot",
    "DiskDelay",
    "DiskError",
    "DiskFault",
    "DiskFull",
    "FsyncFails",
    "FsyncLies",
    "KillAtCall",
    "LostWrite",
    "MisdirectedWrite",
    "ShortRead",
    "ShortWrite",
    "TornWrite",
]
