"""A fault inside the proxy: what each kind may do to the proxy, to new connections and to the links of each.

A toxic is made when the harness injects a network fault and lives until that fault is healed. A new kind
overrides some of: `start` and `stop` (act on the proxy as a whole), `admit` (act while a connection is being
made) and `stage` (act on what crosses one direction of one connection).
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Protocol

from chaos.errors import HarnessError
from chaos.faults.network.connection import Connection, Cut
from chaos.faults.network.link import Link, Side, Stage

SIDES: Mapping[str, tuple[Side, ...]] = {"request": ("request",), "reply": ("reply",), "both": ("request", "reply")}
"""The directions that each declared `side` stands for."""


class Control(Protocol):
    """What a proxy lets a toxic do beyond its links."""

    def cut_all(self, how: Cut) -> int:
        """Cut every connection, open or being made; return how many there were."""

    def stop_listening(self, owner: object) -> None:
        """Close the listening socket until every owner has called `listen`; the port stays reserved."""

    def listen(self, owner: object) -> None:
        """Withdraw one owner's wish; listens again when it was the last. Raises OSError if the port was taken."""

    async def refuses(self) -> bool:
        """Connect to the proxy's own port and tell whether the kernel refused (ECONNREFUSED)."""


class Toxic:
    """Base of toxics: changes nothing.

    Class attributes: `kind` is the name of the declared fault; `lasting` is False for a point in time.
    """

    kind: ClassVar[str]
    lasting: ClassVar[bool] = True

    def __init__(self) -> None:
        """Start with empty evidence."""
        self.counters: Counter[str] = Counter()

    async def start(self, control: Control) -> None:
        """Act on the proxy as a whole; the stages are in place already. Must begin before its first await."""

    async def stop(self, control: Control) -> None:
        """Take back what `start` did; the stages are gone already. Idempotent; also after a cancelled start."""

    async def admit(self, client: socket.socket) -> bool:
        """Decide on a connection that was accepted and not yet dialed; False resets it. It may wait."""
        return True

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Return how this fault acts on one direction of one connection; None when it leaves it alone.

        Asked once per link: in order of connection ordinal for those open at injection, then as they open.
        """
        return None

    def evidence(self) -> dict[str, int]:
        """Return the counters gathered so far."""
        return dict(self.counters)


def directions(side: str) -> tuple[Side, ...]:
    """Return the links that `side` means. Raises HarnessError for anything but request, reply and both."""
    if side not in SIDES:
        raise HarnessError(f"side={side!r} must be one of {', '.join(SIDES)}")
    return SIDES[side]
