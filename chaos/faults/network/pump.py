"""Waiting for the sockets of proxied connections: on any event loop, and on one that does it at half the cost.

For asyncio an event is a handle in a queue, and that costs more than serving the event. `new_loop` makes a loop
whose selector serves these sockets itself, from an epoll set (epoll(7)) that asyncio's own is a member of; its
timers keep to a fraction of a millisecond as well. Everything else of asyncio stays as it is. On any other loop,
and where there is no epoll, the sockets are watched the ordinary way.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

READ = 0x001
WRITE = 0x004
"""Events of a socket, numbered as epoll does; it may tell of more, see epoll_ctl(2)."""

Handler = Callable[[int], None]
"""What is told the events of a socket: READ, WRITE, or both after an error or a hang-up. It must not raise."""

_EPOLL_TICK_S = 0.001


class Pump(Protocol):
    """A set of sockets and the handler of each. Use it from the thread of its loop only."""

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Wait for READ, WRITE or both of a socket, and no longer for what was said of it before."""

    def forget(self, descriptor: int) -> None:
        """Take a socket out; its handler hears of nothing more. Call it before the socket is closed."""


def pump_of(loop: asyncio.AbstractEventLoop) -> Pump:
    """Return the pump that goes with a loop: one of `new_loop` or of asyncio (uvloop gives up on broken sockets)."""
    return loop.pump if isinstance(loop, _Loop) else _LoopPump(loop)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that serves the sockets of its pump itself; for `asyncio.Runner(loop_factory=new_loop)`.

    Make it early in a process: its timers use select(2), which knows descriptors below 1024 only.
    """
    return _Loop() if hasattr(select, "epoll") else asyncio.new_event_loop()


class _LoopPump:
    """The readers and writers of any loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Add and remove a reader and a writer. What went wrong is told to whichever there is."""
        if events & READ:
            self._loop.add_reader(descriptor, handler, READ)
        else:
            self._loop.remove_reader(descriptor)
        if events & WRITE:
            self._loop.add_writer(descriptor, handler, WRITE)
        else:
            self._loop.remove_writer(descriptor)

    def forget(self, descriptor: int) -> None:
        """Remove both."""
        self.watch(descriptor, 0, _nobody)


class _EpollPump(selectors.BaseSelector):
    """A pump that is also the selector of a loop: to asyncio it returns what is ready of asyncio's own."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._asyncio = selectors.EpollSelector()
        self._asyncio_ready: list[tuple[selectors.SelectorKey, int]] = []
        self.watch(self._asyncio.fileno(), READ, self._ask_asyncio)

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Add a socket to the set, or change what is waited for."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int) -> None:
        """Take a socket out of the set."""
        self._epoll.unregister(descriptor)
        del self._handlers[descriptor]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait up to `timeout` seconds (None: for ever), serve every socket with an event once, return asyncio's."""
        self._asyncio_ready = []
        for descriptor, events in self._wait(timeout):
            handler = self._handlers.get(descriptor)  # one that was served before may have closed this one
            if handler is not None:
                handler(events)
        return self._asyncio_ready

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch something of asyncio's own."""
        return self._asyncio.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        """Watch it no more."""
        return self._asyncio.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch it for something else."""
        return self._asyncio.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        """Return what asyncio watches."""
        return self._asyncio.get_map()

    def close(self) -> None:
        """Give both descriptors back; no handler hears of anything more."""
        self._handlers.clear()
        self._epoll.close()
        self._asyncio.close()

    def _ask_asyncio(self, _: int) -> None:
        self._asyncio_ready = self._asyncio.select(0)

    def _wait(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Wait, to a fraction of a millisecond: epoll counts whole ones, rounding up, so select waits for the last."""
        if timeout_s is None or timeout_s <= 0:
            return self._epoll.poll(timeout_s)
        until_s = time.monotonic() + timeout_s
        events = self._epoll.poll(timeout_s - _EPOLL_TICK_S) if timeout_s > _EPOLL_TICK_S else []
        rest_s = until_s - time.monotonic()
        if not events and rest_s > 0:
            select.select((self._epoll,), (), (), rest_s)
            events = self._epoll.poll(0)
        return events


class _Loop(asyncio.SelectorEventLoop):
    """An asyncio loop that waits on its pump."""

    def __init__(self) -> None:
        self.pump = _EpollPump()
        super().__init__(self.pump)


def _nobody(_: int) -> None:
    """Handle nothing."""
