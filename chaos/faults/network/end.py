"""One socket of a proxied connection: the client's end or the upstream's.

It does for a TCP socket what a transport and a protocol of asyncio do together, with the same rules of
back-pressure and closing, at a fraction of the cost for each chunk: what arrives is read into one buffer that all
ends share, and an end that only relays writes it to the other socket from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
from collections.abc import Callable

from chaos.faults.network.pump import READ, WRITE, Pump, pump_of
from chaos.faults.network.sockets import close_resets, unacknowledged_bytes, unread_bytes

WRITE_BYTES_HIGH = 64 * 1024
"""Unsent bytes in user space above which the end that feeds this one is no longer read."""

WRITE_BYTES_LOW = WRITE_BYTES_HIGH // 4
"""Unsent bytes at which it is read again."""

READ_BYTES_MAX = 256 * 1024
"""Bytes that are read from a socket at once: the largest chunk there is."""

_SENDS_AT_ONCE = 64
_JOINED_BYTES = 1024
_BUFFER = memoryview(bytearray(READ_BYTES_MAX))
"""Where every end reads to. What it holds is written or copied before anything else is read."""

log = logging.getLogger(__name__)


class Signal(enum.Enum):
    """What travels beside bytes: the orderly end of a direction, or the abrupt end of the connection."""

    FIN = "fin"
    RST = "rst"


Item = bytes | Signal
"""What crosses a link, in order: bytes as they were read, then possibly a FIN, then possibly an RST."""


def _ignore(_: object) -> None:
    """Stand in until a link is tied to this end."""


class End:
    """A socket that is read while nobody has a reason against it.

    The links tie themselves to it: `receive` gets every item that arrives, `throttle` hears True when this
    end takes no more bytes for now and False when it does again, `lost` hears that the socket is closed.
    A link that changes nothing sets `relay` too, which then gets the bytes instead: a view that is only valid
    during the call.
    """

    __slots__ = (
        "_backlog",
        "_closing",
        "_concluding",
        "_doomed",
        "_ended",
        "_finishing",
        "_loop",
        "_paused_by",
        "_pump",
        "_socket",
        "_throttling",
        "_watched",
        "gone",
        "lost",
        "receive",
        "relay",
        "throttle",
        "unsent_bytes",
    )

    def __init__(self) -> None:
        """Start without a socket; `attach` brings it."""
        self.receive: Callable[[Item], None] = _ignore
        self.relay: Callable[[memoryview], None] | None = None
        self.throttle: Callable[[bool], None] = _ignore
        self.lost: Callable[[End], None] = _ignore
        self.gone = False
        self.unsent_bytes = 0
        """Bytes written to this end that the kernel has not taken yet."""
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: Pump | None = None
        self._watched = 0  # the events that the pump waits for
        self._paused_by: set[object] = set()
        self._backlog: list[memoryview] = []
        self._throttling = False
        self._ended = False  # a FIN or an RST has arrived
        self._finishing = False  # a FIN is to be sent behind the backlog
        self._closing = False  # nothing is written any more
        self._concluding = False  # the socket is about to be closed
        self._doomed = False  # it is closed with RST, by us

    @property
    def connected(self) -> bool:
        """Whether there is a socket that is neither closed nor about to be."""
        return self._socket is not None and not self._closing

    @property
    def paused(self) -> bool:
        """Whether anybody has a reason not to read from it."""
        return bool(self._paused_by)

    @property
    def unread_bytes(self) -> int:
        """Bytes that wait in the kernel because this end is not being read."""
        return unread_bytes(self._socket) if self._socket is not None and not self._closing else 0

    @property
    def unacknowledged_bytes(self) -> int:
        """Bytes that the kernel has taken and the peer's has not acknowledged; a reset would lose them."""
        return unacknowledged_bytes(self._socket) if self._socket is not None and not self._closing else 0

    def attach(self, sock: socket.socket) -> None:
        """Take over a connected, non-blocking socket. Needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._pump = pump_of(self._loop)
        self._socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._doomed:
            self.reset()
        else:
            self._watch()

    def pause(self, reason: object) -> None:
        """Do not read until `reason` (any hashable) is resumed; the peer is slowed down by TCP itself."""
        self._paused_by.add(reason)
        self._watch()

    def resume(self, reason: object) -> None:
        """Withdraw one reason; reading goes on when it was the last. Nothing for an unknown reason."""
        if reason in self._paused_by:
            self._paused_by.remove(reason)
            self._watch()

    def resume_all(self) -> None:
        """Withdraw every reason."""
        self._paused_by.clear()
        self._watch()

    def write(self, data: bytes | memoryview) -> bool:
        """Send bytes; False when the socket is gone and they were dropped."""
        if self._socket is None or self._closing:
            return False
        sent = 0
        if not self._backlog:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self._conclude_soon(failed=True)
                return False
        if sent < len(data):
            self._keep(data, sent)
        return True

    def finish(self) -> None:
        """Send FIN after what was written; reading goes on. Idempotent."""
        if self.connected:
            self._finishing = True
            self._flushed()

    def reset(self) -> None:
        """Close with RST at once; what was written and not yet sent is lost. Idempotent."""
        self._doomed = True
        if self._socket is not None and not self.gone:
            close_resets(self._socket)
            self._conclude_soon(failed=False)

    def close(self) -> None:
        """Close after sending what was written. Idempotent."""
        if self.connected:
            self._closing = True
            self._watch()
            self._flushed()

    def leave(self) -> None:
        """Close at once, with FIN behind what the kernel has taken; the rest is lost. Idempotent."""
        if self._socket is not None and not self.gone:
            self._conclude_soon(failed=False)

    def _ready(self, events: int) -> None:
        """Serve what the pump tells of the socket."""
        try:
            if events & ~READ and self._backlog:
                self._flush()
            if events & ~WRITE and self._watched & READ:
                self._read()
        except Exception:  # a defect of ours; left open, the socket would report the same event for ever
            log.exception("a connection is reset because serving it failed")
            assert self._socket is not None
            close_resets(self._socket)
            self._conclude_soon(failed=True)

    def _read(self) -> None:
        assert self._socket is not None
        try:
            count = self._socket.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self._conclude_soon(failed=True)
            return
        if count == 0:
            self._ended = True
            self._watch()
            self.receive(Signal.FIN)
        elif self.relay is not None:
            self.relay(_BUFFER[:count])
        else:
            self.receive(_BUFFER[:count].tobytes())

    def _keep(self, data: bytes | memoryview, sent: int) -> None:
        """Keep what the kernel did not take, since the buffer it may lie in is read to again."""
        rest = memoryview(data)[sent:]
        self.unsent_bytes += len(rest)
        if self._backlog and len(self._backlog[-1]) + len(rest) <= _JOINED_BYTES:
            self._backlog[-1] = memoryview(bytes(self._backlog[-1]) + rest)
        else:
            self._backlog.append(memoryview(bytes(rest)))
        self._watch()
        if self.unsent_bytes > WRITE_BYTES_HIGH and not self._throttling:
            self._throttling = True
            self.throttle(True)

    def _flush(self) -> None:
        """Send what the kernel takes of the backlog."""
        assert self._socket is not None
        try:
            sent = self._socket.sendmsg(self._backlog[:_SENDS_AT_ONCE])
        except BlockingIOError:
            return
        except OSError:
            self._conclude_soon(failed=True)
            return
        self.unsent_bytes -= sent
        whole = 0  # pieces that went out as a whole
        while sent and sent >= len(self._backlog[whole]):
            sent -= len(self._backlog[whole])
            whole += 1
        if sent:
            self._backlog[whole] = self._backlog[whole][sent:]
        del self._backlog[:whole]
        if self._throttling and self.unsent_bytes <= WRITE_BYTES_LOW:
            self._throttling = False
            self.throttle(False)
        self._flushed()

    def _flushed(self) -> None:
        """Do what waits for an empty backlog, if it is empty."""
        if self._backlog:
            return
        self._watch()
        if self._closing:
            self._conclude_soon(failed=False)
        elif self._finishing:
            assert self._socket is not None
            with contextlib.suppress(OSError):  # the peer reset it a moment ago; reading will say so
                self._socket.shutdown(socket.SHUT_WR)

    def _watch(self) -> None:
        """Have the pump wait for what is of use now."""
        if self._socket is None or self._pump is None:
            return
        wanted = 0
        if not self._concluding:
            if not (self._paused_by or self._ended or self._closing):
                wanted = READ
            if self._backlog:
                wanted |= WRITE
        if wanted == self._watched:
            return
        self._watched = wanted
        if wanted:
            self._pump.watch(self._socket.fileno(), wanted, self._ready)
        else:  # in the set, it would tell again and again of an error or a hang-up that nobody may read
            self._pump.forget(self._socket.fileno())

    def _conclude_soon(self, *, failed: bool) -> None:
        """Close the socket when whoever calls us is done; `failed` says that the connection broke."""
        self._closing = True
        self._backlog.clear()
        self.unsent_bytes = 0
        if not self._concluding:
            assert self._loop is not None
            self._concluding = True
            self._watch()
            self._loop.call_soon(self._conclude, failed)

    def _conclude(self, failed: bool) -> None:
        assert self._socket is not None
        self.gone = self._ended = True
        try:
            if failed and not self._doomed:
                self.receive(Signal.RST)
        finally:
            self._socket.close()
            self.lost(self)
