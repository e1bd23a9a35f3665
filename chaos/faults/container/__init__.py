"""Faults of the container that a store's server lives in; only the backends docker and compose have one."""

from __future__ import annotations

from chaos.faults.container.disconnect import NetworkDisconnect
from chaos.faults.container.memory import MemoryLimit
from chaos.faults.container.stop import Restart, SlowStart, Stop

__all__ = ["MemoryLimit", "NetworkDisconnect", "Restart", "SlowStart", "Stop"]
