"""Messages between the harness and its child processes over a socket pair.

A frame is a 4-byte big-endian length and that many bytes of JSON. Three shapes:
`{"id", "op", "args"}` asks, `{"id", "ok"}` or `{"id", "error"}` answers, `{"op", "args"}` only tells. Both ends
may ask. End of file means that the other process is gone; what it wrote before is still delivered in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from chaos.errors import HarnessError

_LENGTH = struct.Struct(">I")
_FRAME_BYTES_MAX = 256 * 1024 * 1024

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]
Listener = Callable[[str, dict[str, Any]], None]


class ChannelClosed(HarnessError):
    """The process at the other end is gone, or its end was closed."""


class RemoteError(HarnessError):
    """The other end answered with an error; `kind` is the name of the exception's class there."""

    def __init__(self, kind: str, text: str) -> None:
        """Keep the remote class name beside its text."""
        self.kind = kind
        self.text = text
        super().__init__(f"{kind}: {text}")


class Channel(asyncio.Protocol):
    """The asyncio end. Questions are handled concurrently; told messages go to `listener` in order."""

    def __init__(self, handler: Handler | None = None, listener: Listener | None = None) -> None:
        """`handler` answers questions (it runs in a task of its own); `listener` gets what is only told."""
        self._handler = handler
        self._listener = listener
        self._buffer = bytearray()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._patience_s: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.Event()
        self.heard_ns = time.monotonic_ns()
        """When anything was received last, on the monotonic clock."""

    @classmethod
    async def open(
        cls, sock: socket.socket, handler: Handler | None = None, listener: Listener | None = None
    ) -> Channel:
        """Take over one end of a connected stream socket pair."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(handler, listener), sock=sock)
        return channel

    async def call(self, op: str, args: dict[str, Any] | None = None, timeout_s: float | None = None) -> Any:
        """Ask and wait for the answer.

        Raises ChannelClosed when the other end is gone, RemoteError when it answered with an error, and
        TimeoutError after `timeout_s`. Cancellation: safe; a late answer is dropped.
        """
        if self._transport is None or self._transport.is_closing():
            raise ChannelClosed(f"no process to ask for {op}")
        self._next_id += 1
        number = self._next_id
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._patience_s[number] = timeout_s or 0.0
        try:
            self._send({"id": number, "op": op, "args": args or {}})
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            self._waiting.pop(number, None)
            self._patience_s.pop(number, None)

    def tell(self, op: str, args: dict[str, Any] | None = None) -> None:
        """Send a message that wants no answer; silently dropped when the other end is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._send({"op": op, "args": args or {}})

    async def wait_closed(self) -> None:
        """Wait until the other end is gone and everything it wrote has been delivered. Safe to cancel."""
        await self._closed.wait()

    @property
    def waiting(self) -> bool:
        """Whether a question of ours has no answer yet."""
        return bool(self._waiting)

    @property
    def patience_s(self) -> float:
        """The longest time that a question of ours, still open, is given for its answer."""
        return max(self._patience_s.values(), default=0.0)

    @property
    def closed(self) -> bool:
        """Whether the other end is gone."""
        return self._closed.is_set()

    def close(self) -> None:
        """Close this end; pending calls raise ChannelClosed. Idempotent."""
        if self._transport is not None:
            self._transport.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._transport is not None
        payload = msgspec.json.encode(message)
        self._transport.write(_LENGTH.pack(len(payload)) + payload)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Callback of asyncio: the socket is ours now."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Callback of asyncio: gather bytes and deliver every whole frame."""
        self.heard_ns = time.monotonic_ns()
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            message = msgspec.json.decode(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
            self._deliver(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Callback of asyncio: fail every waiting call; tasks that answer questions run on."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ChannelClosed("the other process is gone"))
        self._closed.set()

    def _deliver(self, message: dict[str, Any]) -> None:
        if "op" not in message:
            self._settle(message)
        elif "id" in message:
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif self._listener is not None:
            self._listener(message["op"], message["args"])

    def _settle(self, message: dict[str, Any]) -> None:
        future = self._waiting.get(message["id"])
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(RemoteError(message["error"]["kind"], message["error"]["text"]))
        else:
            future.set_result(message["ok"])

    async def _answer(self, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": message["id"]}
        try:
            if self._handler is None:
                raise HarnessError(f"nothing here answers {message['op']}")
            reply["ok"] = msgspec.to_builtins(await self._handler(message["op"], message["args"]))
        except Exception as error:  # noqa: BLE001  # every failure must reach the asker, whatever it is
            reply["error"] = {"kind": type(error).__name__, "text": str(error)}
        if self._transport is not None and not self._transport.is_closing():
            self._send(reply)


class SyncChannel:
    """The blocking end, for a process without an event loop (the graph engine's child).

    One thread receives; any thread may send.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take over one end of a connected stream socket pair; it is made blocking."""
        sock.setblocking(True)
        self._socket = sock
        self._sending = threading.Lock()

    def receive(self) -> dict[str, Any] | None:
        """Return the next message, or None when the other end is gone."""
        header = self._read(_LENGTH.size)
        if header is None:
            return None
        (length,) = _LENGTH.unpack(header)
        if length > _FRAME_BYTES_MAX:
            raise HarnessError(f"frame of {length} bytes exceeds {_FRAME_BYTES_MAX}")
        payload = self._read(length)
        return None if payload is None else msgspec.json.decode(payload)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; a peer that is gone is not an error, since `receive` tells it next."""
        payload = msgspec.json.encode(message)
        with self._sending, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(_LENGTH.pack(len(payload)) + payload)

    def _read(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._socket.recv(count - len(parts))
            except ConnectionResetError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)
