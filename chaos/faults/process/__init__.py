"""Faults of processes: killed, or stopped for a while."""

from __future__ import annotations

from chaos.faults.process.kill import Kill
from chaos.faults.process.pause import Pause

__all__ = ["Kill", "Pause"]
