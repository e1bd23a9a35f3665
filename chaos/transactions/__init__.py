"""Transactions over SQLite, Redis and a graph: `open` for library users, `System` for the harness.

Names are loaded when they are first asked for. See docs/how-to/use-the-coordinator.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos._lazy import lazily

if TYPE_CHECKING:
    from chaos.transactions.coordinator import Coordinator
    from chaos.transactions.library import open  # noqa: A004
    from chaos.workload.base import Genesis, Writes

_HOMES = {
    "Coordinator": "chaos.transactions.coordinator:Coordinator",
    "Genesis": "chaos.workload.base:Genesis",
    "Writes": "chaos.workload.base:Writes",
    "open": "chaos.transactions.library:open",
}

__all__ = ["Coordinator", "Genesis", "Writes", "open"]

__getattr__, __dir__ = lazily(globals(), _HOMES)
