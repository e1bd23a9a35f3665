"""SlowAccept: a new connection waits before it is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos._declare import Duration, seconds
from chaos.errors import Problem
from chaos.faults.network.declared import ConnectFault
from chaos.faults.network.toxic import Control, Toxic

DELAY_S_MIN = 0.001
DELAY_S_MAX = 60.0


@dataclass(frozen=True)
class SlowAccept(ConnectFault):
    """Let every new connection to `store` wait for `delay` before it reaches it; with `cut`, reset the open ones.

    `connect` succeeds, because the kernel accepts; what is sent waits, and is delivered even if its sender has left
    by then, as from the queue of a server too busy to accept. The heal lets in at once what waits.
    """

    kind: ClassVar[str] = "network.slow_accept"
    bites: ClassVar[tuple[str, ...]] = ("connections_delayed",)

    delay: Duration
    _: KW_ONLY
    cut: bool = True

    def arguments(self) -> dict[str, Any]:
        """Return the store, the time in seconds and whether open connections are reset."""
        return {"store": self.store, "delay_s": seconds(self.delay), "cut": self.cut}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a bad time."""
        yield from super().problems()
        yield from self.bad_duration("delay", low_s=DELAY_S_MIN, high_s=DELAY_S_MAX)


class SlowAcceptToxic(Toxic):
    """The proxy's part of `SlowAccept`. Evidence: connections_delayed (new ones), connections_cut (open ones)."""

    kind: ClassVar[str] = "network.slow_accept"

    def __init__(self, *, delay_s: float, cut: bool = True) -> None:
        """With `cut`, open connections are reset."""
        super().__init__()
        self._delay_s = delay_s
        self._cut = cut
        self._healed = asyncio.Event()

    async def start(self, control: Control) -> None:
        """Cut what is open."""
        if self._cut:
            self.counters["connections_cut"] = control.cut_all("rst")

    async def stop(self, control: Control) -> None:
        """Let in what waits."""
        self._healed.set()

    async def admit(self, client: socket.socket) -> bool:
        """Wait, and let it in."""
        self.counters["connections_delayed"] += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._delay_s):
                await self._healed.wait()
        return True
