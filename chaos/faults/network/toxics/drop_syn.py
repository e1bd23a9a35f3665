"""DropSyn: a connect is neither accepted nor refused, because its SYN is dropped."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.errors import HarnessError
from chaos.faults.network.declared import ConnectFault
from chaos.faults.network.sockets import family_of, listening, reset
from chaos.faults.network.toxic import Control, Toxic

_FILLERS_MAX = 8
_ANSWER_S = 0.2
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_DROPS = 8


@dataclass(frozen=True)
class DropSyn(ConnectFault):
    """Drop the SYN of every new connection to `store`; with `cut`, reset the open ones first.

    `connect` hangs until its own timeout, as when a firewall drops packets or a server's backlog is full. Clients
    that still wait at the heal get through when their kernel tries again: a second after the first SYN, then after
    two more, four more and so on.
    """

    kind: ClassVar[str] = "network.drop_syn"
    bites: ClassVar[tuple[str, ...]] = ("syns_dropped",)
    # The coordinator goes on committing to the other stores while one cannot be reached.
    stops_work: ClassVar[bool] = False

    _: KW_ONLY
    cut: bool = True

    def __post_init__(self) -> None:
        """Connections that stay open go on being used."""
        object.__setattr__(self, "severs", self.cut)

    def arguments(self) -> dict[str, Any]:
        """Return the store and whether open connections are reset."""
        return {"store": self.store, "cut": self.cut}


class DropSynToxic(Toxic):
    """The proxy's part of `DropSyn`: a listener whose backlog is full in place of the proxy's own.

    The kernel drops a SYN when the queue of connections to be accepted is full (listen(2)), and counts it for the
    listening socket. Evidence: syns_dropped (of others than us), probe_unanswered (1 or 0: our own connect, which
    must not be answered), connections_cut.
    """

    kind: ClassVar[str] = "network.drop_syn"

    def __init__(self, *, cut: bool = True) -> None:
        """With `cut`, open connections are reset."""
        super().__init__()
        self._cut = cut
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []
        self._filling: asyncio.Task[None] | None = None
        self._own_syns = 0  # of ours, sent and not answered

    async def start(self, control: Control) -> None:
        """Take the listener's place, cut, and fill the backlog until a connect of our own is not answered.

        A heal ends the filling. Raises HarnessError when another fault of this kind holds the port.
        """
        address = control.address
        control.stop_listening(self)
        try:
            self._listener = listening(*address, backlog=0)
        except OSError as error:
            control.listen(self)
            if error.errno == errno.EADDRINUSE:
                raise HarnessError(f"{self.kind}: another fault holds port {address[1]}; heal it first") from error
            raise
        if self._cut:
            self.counters["connections_cut"] = control.cut_all("rst")
        self.counters["probe_unanswered"] = 0
        self._filling = asyncio.get_running_loop().create_task(self._fill(address))
        await asyncio.wait({self._filling})
        if not self._filling.cancelled():
            self._filling.result()

    async def stop(self, control: Control) -> None:
        """Make way for the proxy's own listener."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait({self._filling})
        self.abandon()
        control.listen(self)

    def abandon(self) -> None:
        """Close the listener and what filled it."""
        if self._filling is not None:
            self._filling.cancel()  # the loop may wait for its socket still, so only the task may close that
        self.counters.update(self._dropped())
        for sock in self._fillers:
            reset(sock)
        self._fillers.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def evidence(self) -> dict[str, int]:
        """Return the counters, with what the kernel counts."""
        return {**super().evidence(), **self._dropped()}

    async def _fill(self, address: tuple[str, int]) -> None:
        for _ in range(_FILLERS_MAX):
            if not await self._answered(address):
                self.counters["probe_unanswered"] = 1
                return

    async def _answered(self, address: tuple[str, int]) -> bool:
        """Connect, and stay connected if that succeeds. Cancellation: safe; the SYN that was sent stays counted."""
        filler = socket.socket(family_of(address[0]), socket.SOCK_STREAM)
        self._own_syns += 1
        try:
            filler.setblocking(False)
            async with asyncio.timeout(_ANSWER_S):
                await asyncio.get_running_loop().sock_connect(filler, address)
        except (OSError, TimeoutError):
            reset(filler)
            return False
        except BaseException:
            reset(filler)
            raise
        self._own_syns -= 1
        self._fillers.append(filler)
        return True

    def _dropped(self) -> dict[str, int]:
        """Return how many SYNs the kernel has dropped at the listener (SO_MEMINFO), less those of our own."""
        if self._listener is None:
            return {}
        memory = self._listener.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        return {"syns_dropped": max(0, int(_MEMINFO.unpack(memory)[_DROPS]) - self._own_syns)}
