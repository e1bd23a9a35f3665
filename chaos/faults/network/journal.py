"""The wire journal: what happened to the connections of a proxy, one JSON object a line, never a value.

A frame is told by its command, its key, its size and a hash of its bytes, so that two frames can be found equal
and nothing that was stored can be read. Lines are handed to the kernel one by one: a kill loses none.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from chaos.faults.network.resp.commands import CONTAINERS, SECRETS, shown

if TYPE_CHECKING:
    from chaos.faults.network.resp.framer import Frame
    from chaos.faults.network.resp.session import Exchange

SCHEMA = 1
_TOKEN_BYTES_MAX = 64 * 1024
_HASH_BYTES = 8

log = logging.getLogger(__name__)


class Journal:
    """Appends to one file. `frames`: whether requests and replies are wanted, or only what befalls connections.

    times are nanoseconds of the monotonic clock since `start_ns`. tokens: a pattern for the names of transactions;
    the first one in a request is written down beside it. A disk that refuses a line ends the journal, and the log
    of the process says so; it never ends what is journaled.
    """

    def __init__(
        self,
        path: str,
        *,
        frames: bool,
        start_ns: int,
        tokens: str | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Open the file, which may exist. Raises OSError."""
        self.frames = frames
        self._path = path
        self._start_ns = start_ns
        self._clock_ns = clock_ns
        self._tokens = re.compile(tokens.encode()) if tokens else None
        self._encoder = msgspec.json.Encoder()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._write("journal", schema=SCHEMA, frames=frames)

    def opened(self, connection: int) -> None:
        """A client was connected to the upstream."""
        self._write("open", connection=connection)

    def closed(self, connection: int, request_bytes: int, reply_bytes: int, *, how: str | None) -> None:
        """Both sockets of a connection are closed; so much had passed. `how` the proxy had cut it, None: it had not."""
        passed = {"request_bytes": request_bytes, "reply_bytes": reply_bytes}
        self._write("close", connection=connection, **passed, how=how)

    def cut(self, connection: int, how: str, fault: str | None) -> None:
        """The proxy itself ends a connection."""
        self._write("cut", connection=connection, how=how, fault=fault)

    def injected(self, fault: str, kind: str) -> None:
        """A fault acts from now on."""
        self._write("fault_injected", fault=fault, f=kind)

    def healed(self, fault: str) -> None:
        """A fault acts no more."""
        self._write("fault_healed", fault=fault)

    def unread(self, connection: int, reason: str) -> None:
        """The frames of a connection cannot be told apart from here on."""
        self._write("unread", connection=connection, reason=reason)

    def request(self, connection: int, exchange: Exchange, frame: Frame) -> None:
        """A whole request has arrived."""
        self._write(
            "request",
            connection=connection,
            frame=exchange.number,
            **_named(exchange),
            size=frame.size,
            hash=_hash(frame) if exchange.name not in SECRETS else None,
            token=self._token(frame),
        )

    def reply(self, connection: int, exchange: Exchange | None, frame: Frame, what: str) -> None:
        """A whole reply has arrived: `what` is reply, push, swallowed, or forged when the proxy made it up.

        `frame` of the line is the number of the request that it answers.
        """
        self._write(
            what,
            connection=connection,
            frame=None if exchange is None else exchange.number,
            type=frame.kind.decode("latin-1"),
            size=frame.size,
            hash=_hash(frame) if exchange is None or exchange.name not in SECRETS else None,
        )

    def rule(self, fault: str | None, connection: int, exchange: Exchange, at: str, action: str, nth: int) -> None:
        """A rule acts on a frame, the nth that its filter takes."""
        self._write(
            "rule",
            fault=fault,
            connection=connection,
            frame=exchange.number,
            **_named(exchange),
            at=at,
            action=action,
            nth=nth,
        )

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _token(self, frame: Frame) -> str | None:
        if self._tokens is None:
            return None
        found = self._tokens.search(frame.raw[:_TOKEN_BYTES_MAX])
        return found[0].decode("ascii", "replace") if found else None

    def _write(self, kind: str, **fields: Any) -> None:
        if self._descriptor < 0:
            return
        line = {"time_ns": self._clock_ns() - self._start_ns, "kind": kind}
        line.update((name, value) for name, value in fields.items() if value is not None)
        try:
            os.write(self._descriptor, self._encoder.encode(line) + b"\n")
        except OSError as error:
            log.warning("the wire journal %s ends here: %s", self._path, error.strerror)
            self.close()


def _named(exchange: Exchange) -> dict[str, str | None]:
    """Return what is told of a request: its command, with its subcommand where it has one, and its first key."""
    command = exchange.words if exchange.name in CONTAINERS else exchange.name
    return {"command": command, "key": shown(exchange.keys[0]) if exchange.keys else None}


def _hash(frame: Frame) -> str:
    return hashlib.blake2b(frame.raw, digest_size=_HASH_BYTES).hexdigest()
