"""Every fault that an experiment can declare. A new fault is one file, one test and one section in the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos._lazy import lazily

if TYPE_CHECKING:
    from chaos.faults.base import Fault
    from chaos.faults.container.disconnect import NetworkDisconnect
    from chaos.faults.container.memory import MemoryLimit
    from chaos.faults.container.stop import Restart, SlowStart, Stop
    from chaos.faults.disk.failing import DiskError, FsyncFails, FsyncLies
    from chaos.faults.disk.killing import KillAtCall
    from chaos.faults.disk.power import PowerLoss
    from chaos.faults.disk.space import DiskFull
    from chaos.faults.disk.timing import DiskDelay
    from chaos.faults.disk.transfers import BitRot, LostWrite, MisdirectedWrite, ShortRead, ShortWrite, TornWrite
    from chaos.faults.network.resp.actions import Cut, Delay, Drop, Duplicate, Forge, Hold, Seen
    from chaos.faults.network.resp.on_command import OnCommand
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
    from chaos.faults.process.clock_jump import ClockJump
    from chaos.faults.process.corrupt import Corrupt
    from chaos.faults.process.hold_lock import HoldLock
    from chaos.faults.process.kill import Kill
    from chaos.faults.process.lose_data import LoseData
    from chaos.faults.process.pause import Pause
    from chaos.faults.process.stall import Stall
    from chaos.faults.process.supplant import Supplant

_HOMES = {
    "Bandwidth": "chaos.faults.network.toxics.bandwidth:Bandwidth",
    "BitRot": "chaos.faults.disk.transfers:BitRot",
    "ClockJump": "chaos.faults.process.clock_jump:ClockJump",
    "Corrupt": "chaos.faults.process.corrupt:Corrupt",
    "Cut": "chaos.faults.network.resp.actions:Cut",
    "Delay": "chaos.faults.network.resp.actions:Delay",
    "Disconnect": "chaos.faults.network.toxics.disconnect:Disconnect",
    "DiskDelay": "chaos.faults.disk.timing:DiskDelay",
    "DiskError": "chaos.faults.disk.failing:DiskError",
    "DiskFull": "chaos.faults.disk.space:DiskFull",
    "Drop": "chaos.faults.network.resp.actions:Drop",
    "DropSyn": "chaos.faults.network.toxics.drop_syn:DropSyn",
    "Duplicate": "chaos.faults.network.resp.actions:Duplicate",
    "Fault": "chaos.faults.base:Fault",
    "Flapping": "chaos.faults.network.toxics.flapping:Flapping",
    "Forge": "chaos.faults.network.resp.actions:Forge",
    "FsyncFails": "chaos.faults.disk.failing:FsyncFails",
    "FsyncLies": "chaos.faults.disk.failing:FsyncLies",
    "Hold": "chaos.faults.network.resp.actions:Hold",
    "HoldLock": "chaos.faults.process.hold_lock:HoldLock",
    "Kill": "chaos.faults.process.kill:Kill",
    "KillAtCall": "chaos.faults.disk.killing:KillAtCall",
    "Latency": "chaos.faults.network.toxics.latency:Latency",
    "Limit": "chaos.faults.network.toxics.limit:Limit",
    "Loss": "chaos.faults.network.toxics.loss:Loss",
    "LoseData": "chaos.faults.process.lose_data:LoseData",
    "LostWrite": "chaos.faults.disk.transfers:LostWrite",
    "MemoryLimit": "chaos.faults.container.memory:MemoryLimit",
    "MisdirectedWrite": "chaos.faults.disk.transfers:MisdirectedWrite",
    "NetworkDisconnect": "chaos.faults.container.disconnect:NetworkDisconnect",
    "Noop": "chaos.faults.network.toxics.noop:Noop",
    "OnCommand": "chaos.faults.network.resp.on_command:OnCommand",
    "Partition": "chaos.faults.network.toxics.partition:Partition",
    "Pause": "chaos.faults.process.pause:Pause",
    "PowerLoss": "chaos.faults.disk.power:PowerLoss",
    "Refuse": "chaos.faults.network.toxics.refuse:Refuse",
    "ResetOnAccept": "chaos.faults.network.toxics.reset_on_accept:ResetOnAccept",
    "Restart": "chaos.faults.container.stop:Restart",
    "Seen": "chaos.faults.network.resp.actions:Seen",
    "ShortRead": "chaos.faults.disk.transfers:ShortRead",
    "ShortWrite": "chaos.faults.disk.transfers:ShortWrite",
    "Slicer": "chaos.faults.network.toxics.slicer:Slicer",
    "SlowAccept": "chaos.faults.network.toxics.slow_accept:SlowAccept",
    "SlowClose": "chaos.faults.network.toxics.slow_close:SlowClose",
    "SlowStart": "chaos.faults.container.stop:SlowStart",
    "Stall": "chaos.faults.process.stall:Stall",
    "Stop": "chaos.faults.container.stop:Stop",
    "Supplant": "chaos.faults.process.supplant:Supplant",
    "Timeout": "chaos.faults.network.toxics.timeout:Timeout",
    "TornWrite": "chaos.faults.disk.transfers:TornWrite",
}

__all__ = [
    "Bandwidth",
    "BitRot",
    "ClockJump",
    "Corrupt",
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
    "FsyncFails",
    "FsyncLies",
    "Hold",
    "HoldLock",
    "Kill",
    "KillAtCall",
    "Latency",
    "Limit",
    "LoseData",
    "Loss",
    "LostWrite",
    "MemoryLimit",
    "MisdirectedWrite",
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
    "ShortRead",
    "ShortWrite",
    "Slicer",
    "SlowAccept",
    "SlowClose",
    "SlowStart",
    "Stall",
    "Stop",
    "Supplant",
    "Timeout",
    "TornWrite",
]

__getattr__, __dir__ = lazily(globals(), _HOMES)
