"""What a rule does to the frame it hits. Declared by users, carried out by `wire.py` in the proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos._declare import Declared, Duration, seconds
from chaos.errors import Problem
from chaos.faults.network.connection import CUTS

POINTS = ("before_request", "request_byte", "after_request", "before_reply", "reply_byte")
"""Where a rule acts on a command: at its whole request before any of it is sent on, behind `byte` bytes of the
request, behind the whole request, at its whole reply before any of it is delivered, behind `byte` bytes of it."""

_WHOLE = ("before_request", "before_reply")
_BEFORE_REST = ("before_request", "request_byte", "before_reply", "reply_byte")

FORGED = {
    "-OOM": "-OOM command not allowed when used memory > 'maxmemory'.",
    "-READONLY": "-READONLY You can't write against a read only replica.",
    "-LOADING": "-LOADING Redis is loading the dataset in memory",
    "-EXECABORT": "-EXECABORT Transaction discarded because of previous errors.",
}
"""Errors that may be named by their first word, with the words of a real server."""

_FORGEABLE = re.compile(r"nil|[-+][^\r\n]+|:-?\d+")


@dataclass(frozen=True)
class Action(Declared):
    """Base of actions. `word` names it in the proxy, `points` are those of `POINTS` where it makes sense."""

    word: ClassVar[str]
    points: ClassVar[tuple[str, ...]]

    def arguments(self) -> dict[str, Any]:
        """Return the action as plain JSON values."""
        return {"action": self.word}


@dataclass(frozen=True)
class Cut(Action):
    """End the connection at this point; what lies behind the point is lost, what lies before it arrives first.

    how="rst" resets it on both sides; "fin" closes both in order, after what was sent before the point;
    "half_close" lets the client read end of file while its requests go on to the server; "stall" reads neither
    side any more; "discard" reads both and swallows everything. The last three last until the heal resets the
    connection.
    """

    word: ClassVar[str] = "cut"
    points: ClassVar[tuple[str, ...]] = POINTS

    how: str = "rst"

    def arguments(self) -> dict[str, Any]:
        """Return the way."""
        return {"action": self.word, "how": self.how}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for an unknown way."""
        yield from self.bad_choice("how", CUTS)


@dataclass(frozen=True)
class Drop(Action):
    """Swallow the frame: a request never reaches the server, a reply never the client, which waits in vain."""

    word: ClassVar[str] = "drop"
    points: ClassVar[tuple[str, ...]] = _WHOLE


@dataclass(frozen=True)
class Delay(Action):
    """Pass on what lies behind the point `time` later, and whatever comes behind it in that direction."""

    word: ClassVar[str] = "delay"
    points: ClassVar[tuple[str, ...]] = _BEFORE_REST

    time: Duration

    def arguments(self) -> dict[str, Any]:
        """Return the time in seconds."""
        return {"action": self.word, "time_s": seconds(self.time)}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem unless `time` is a time up to a minute."""
        yield from self.bad_duration("time", high_s=60.0)


@dataclass(frozen=True)
class Duplicate(Action):
    """Send the request to the server twice in a row, as a client that repeats it would; swallow the second reply."""

    word: ClassVar[str] = "duplicate"
    points: ClassVar[tuple[str, ...]] = ("before_request",)


@dataclass(frozen=True)
class Forge(Action):
    """Answer in the server's place.

    At before_request the request is swallowed (in the place of an EXEC the server gets DISCARD, so that no open
    transaction is left); at before_reply the server has executed it, and its reply is replaced. reply: an error
    by its first word (-OOM, -READONLY, -LOADING, -EXECABORT) or in full ("-ERR no such thing"), "+OK" or another
    status, ":1" or another number, or "nil", what EXEC answers when a watched key has changed.
    """

    word: ClassVar[str] = "forge"
    points: ClassVar[tuple[str, ...]] = _WHOLE

    reply: str

    def arguments(self) -> dict[str, Any]:
        """Return the reply as it was declared."""
        return {"action": self.word, "reply": self.reply}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a reply that is not one line of the protocol."""
        if not isinstance(self.reply, str) or not _FORGEABLE.fullmatch(self.reply):
            yield self.problem(
                f'reply={self.reply!r}) must be "nil", or a line that begins with -, + or :',
                'write for example "-OOM", "+OK" or "nil"',
                "bad-reply",
            )


@dataclass(frozen=True)
class Seen(Declared):
    """An event to wait for: the nth frame of `command`, counted from the moment something waits for it.

    It may be on any connection of the proxy. at="request": it was sent on to the server; at="reply": its reply
    was delivered. key is a glob over the command's keys; client is a name that CLIENT SETNAME or HELLO gave.
    """

    command: str
    _: KW_ONLY
    key: str | None = None
    client: str | None = None
    nth: int = 1
    at: str = "request"

    def arguments(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {"command": self.command, "key": self.key, "client": self.client, "nth": self.nth, "at": self.at}

    def problems(self) -> Iterator[Problem]:
        """Yield every mistake."""
        yield from bad_filter(self)
        yield from bad_count(self, "nth")
        yield from self.bad_choice("at", ("request", "reply"))


@dataclass(frozen=True)
class Hold(Action):
    """Keep what lies behind the point until it is released: by an event, or by the heal of the fault at the latest.

    until="heal" waits for the rule's own heal, `.heal(at=when.phase(...))` among them; until=Seen(...) for a frame
    on another connection. What is held is delivered then, late, even when its sender is gone: the zombie write.
    """

    word: ClassVar[str] = "hold"
    points: ClassVar[tuple[str, ...]] = _BEFORE_REST

    until: str | Seen = "heal"

    def arguments(self) -> dict[str, Any]:
        """Return what is waited for."""
        until = self.until
        return {"action": self.word, "until": until.arguments() if isinstance(until, Seen) else until}

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for anything but "heal" and a good `Seen`."""
        until = vars(self)["until"]  # whatever the user wrote
        if isinstance(until, Seen):
            yield from until.problems()
        elif until != "heal":
            yield self.problem(
                f'until={until!r}) must be "heal" or a Seen(...)', 'write for example until=Seen("GET")', "bad-until"
            )


def bad_filter(declared: Any) -> Iterator[Problem]:
    """Yield a problem for each of command, key and client that is no text."""
    if not isinstance(declared.command, str) or not declared.command.strip():
        yield declared.problem(
            f"command={declared.command!r}) must name a command",
            'write for example "EXEC", "EVAL*" or "CLIENT SETNAME"',
            "no-command",
        )
    for name in ("key", "client", "transaction"):
        value = getattr(declared, name, None)
        if value is not None and (not isinstance(value, str) or not value):
            yield declared.problem(
                f"{name}={value!r}) must be text", f"give {name} as text, or leave it out", "no-text"
            )


def bad_count(declared: Any, name: str) -> Iterator[Problem]:
    """Yield a problem unless the attribute is a whole number of at least 1."""
    value = getattr(declared, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        yield declared.problem(
            f"{name}={value!r}) must be a whole number of at least 1", "count occurrences from 1", "bad-nth"
        )


def forged(reply: str, *, command: str, protocol: int) -> bytes:
    """Return the bytes of a forged reply to `command`, in RESP 2 or 3."""
    if reply == "nil":
        if protocol == 3:
            return b"_\r\n"
        return b"*-1\r\n" if command == "EXEC" else b"$-1\r\n"
    return FORGED.get(reply, reply).encode() + b"\r\n"
