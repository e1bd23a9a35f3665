"""How a graph child is started."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from chaos._process import Child, spawn_python

StartChild = Callable[[Path], tuple[Child, socket.socket]]
"""Starts a process of `chaos.stores.graph_child` that appends what it says to a file."""


def spawn(log: Path) -> tuple[Child, socket.socket]:
    """Start a graph child in a new interpreter; return it and our end of its channel. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            return spawn_python("graph", "chaos.stores.graph_child", [], log=log, sock=theirs), ours
        except BaseException:
            ours.close()
            raise
