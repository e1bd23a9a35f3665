"""The database that a run borrows: whose it is, which keys in it a run has made, and how they are removed.

The guardian uses this file without the package, so it imports the standard library only and speaks to the server
itself, over a socket (RESP 2).
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

OWNER_KEY = "chaos:owner"
"""Says whose the data in the database are; the first key that a run writes, and the last to go."""
BEFORE_KEY = "chaos:before"
"""The server's own settings, to be given back by whoever cleans up."""
FSYNC = "appendfsync"
"""The setting that a run changes."""

RUN_KEYS = re.compile(
    r"chaos:(owner|before|applied|refused|~.*)|(balance|limits|list|register|counter|set):\d+|doctor:\d+\.\d+"
    r"|marks|traces|links|degrees|sessions|registered"
)
"""The keys that our own coordinators and workloads make. What a user's coordinator makes may have any name."""

_ANSWER_S = 5.0
_TRY_S = 1.0
_PAUSE_S = 0.05
_SCAN_COUNT = 1000
_SETTLE_LOOKS = 20

Reply = str | int | None | list["Reply"]


class DatabaseError(OSError):
    """The server said no, or something that is not RESP."""


class Database:
    """A connection to a Redis-compatible server. Bytes that are no UTF-8 survive the way there and back."""

    def __init__(self, host: str, port: int, timeout_s: float = _ANSWER_S) -> None:
        """Connect; raises OSError."""
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        """Nothing is left to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._answers.close()
        self._socket.close()

    def __call__(self, *command: str) -> Reply:
        """Send a command and return the answer; raises OSError, DatabaseError when the server says no."""
        parts = [part.encode(errors="surrogateescape") for part in command]
        text = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), text))
        return self._read()

    def owner(self) -> str | None:
        """Return the mark of the run that has the database, None when none has."""
        answer = self("GET", OWNER_KEY)
        return answer if isinstance(answer, str) else None

    def give_settings_back(self) -> str | None:
        """Put the server's own settings back, as they were noted; return what was changed, in words."""
        before, now = self("HGET", BEFORE_KEY, FSYNC), self("CONFIG", "GET", FSYNC)
        if not isinstance(before, str) or (isinstance(now, list) and before in now):
            return None
        self("CONFIG", "SET", FSYNC, before)
        return f"{FSYNC}={before}"

    def sort_keys(self) -> tuple[list[str], list[str]]:
        """Return the keys that a run has made, the owner's last, and all others."""
        keys: set[str] = set()
        cursor = "0"
        while True:
            answer = self("SCAN", cursor, "COUNT", str(_SCAN_COUNT))
            if not isinstance(answer, list) or not isinstance(answer[1], list):
                raise DatabaseError(f"an answer to SCAN that is none: {answer!r}")
            cursor = str(answer[0])
            keys.update(str(key) for key in answer[1])
            if cursor == "0":
                break
        ours = sorted(filter(RUN_KEYS.fullmatch, keys), key=lambda key: (key == OWNER_KEY, key))
        return ours, sorted(keys.difference(ours))

    def remove(self, keys: Iterable[str]) -> None:
        """Remove keys, in their order."""
        for key in keys:
            self("DEL", key)

    def empty(self) -> None:
        """Remove everything, and what a dead process's last commands bring in a moment later."""
        for _ in range(_SETTLE_LOOKS):
            self("FLUSHDB")
            time.sleep(_PAUSE_S)
            if self("DBSIZE") == 0:
                return
        raise DatabaseError("somebody goes on writing into the database")

    def _read(self) -> Reply:
        line = self._answers.readline()
        kind, rest = line[:1], line[1:-2]
        if not line.endswith(b"\r\n"):
            raise DatabaseError("the connection was closed")
        match kind:
            case b"+":
                return rest.decode(errors="surrogateescape")
            case b"-":
                raise DatabaseError(rest.decode(errors="replace"))
            case b":":
                return int(rest)
            case b"$":
                if rest == b"-1":
                    return None
                body = self._answers.read(int(rest) + 2)
                if len(body) != int(rest) + 2:
                    raise DatabaseError("the connection was closed")
                return body[:-2].decode(errors="surrogateescape")
            case b"*":
                return [self._read() for _ in range(int(rest))]
        raise DatabaseError(f"what answers is not a server of this kind: {line[:40]!r}")


def readable(keys: list[str], most: int = 5) -> str:
    """Return the names of some keys for people."""
    some = ", ".join(key.encode(errors="surrogateescape").decode(errors="backslashreplace") for key in keys[:most])
    return some + (f" and {len(keys) - most} more" if len(keys) > most else "")


def wait_for(host: str, port: int, within_s: float) -> Database:
    """Return a connection to a server that answers; raises OSError with the last reason when none does in time."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with Database(host, port, _TRY_S) as database:
                database("PING")
            return Database(host, port)
        except (OSError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise DatabaseError(f"no answer within {within_s:g}s: {error}") from error
        time.sleep(_PAUSE_S)
