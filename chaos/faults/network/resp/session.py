"""Which reply answers which request on one connection, as far as the bytes tell.

Redis answers in order, one reply for each request. What stands out of that order: pushes (RESP3's own type, and
published messages in RESP2), the confirmations of subscribe and unsubscribe (one for each channel, or one), and
CLIENT REPLY OFF and SKIP, which keep replies back. A transaction needs nothing special: each command inside MULTI
is answered with QUEUED, and EXEC with one array.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from chaos.faults.network.resp.commands import arguments_of, keys_of, name_of, subcommand_of
from chaos.faults.network.resp.framer import Frame

_SUBSCRIBING = {"SUBSCRIBE": "SUBSCRIBE", "PSUBSCRIBE": "PSUBSCRIBE", "SSUBSCRIBE": "SSUBSCRIBE"}
_UNSUBSCRIBING = {"UNSUBSCRIBE": "SUBSCRIBE", "PUNSUBSCRIBE": "PSUBSCRIBE", "SUNSUBSCRIBE": "SSUBSCRIBE"}
_CONFIRMATIONS = {name.lower().encode() for name in (*_SUBSCRIBING, *_UNSUBSCRIBING)}
_PUBLISHED = {b"message", b"pmessage", b"smessage"}
_STREAMING = frozenset({"MONITOR", "SYNC", "PSYNC"})
_RESP2 = frozenset({b"*", b"$", b"+", b"-", b":"})


@dataclass(eq=False)
class Exchange:
    """A request and what it waits for.

    number counts the requests of its connection from 0. answered: it gets exactly one reply in the usual order;
    False for those that get none, and for subscribe and the like. ghost: the proxy sent it, so that its reply is
    not for the client. forged: bytes that stand for the server's reply, which will not come. protocol: what the
    server speaks from its reply on, None when that does not change. company: the requests of the same MULTI so far,
    this one among them; empty outside.
    """

    number: int
    name: str
    arguments: tuple[bytes, ...]
    keys: tuple[bytes, ...]
    client: str | None
    size: int
    answered: bool = True
    ghost: bool = False
    confirmations: int | None = None
    forged: bytes | None = None
    protocol: int | None = None
    company: list[Exchange] = field(default_factory=list)
    rules: list[object] = field(default_factory=list)

    @property
    def words(self) -> str:
        """The command with its subcommand, such as "CLIENT SETNAME"."""
        return f"{self.name} {subcommand_of(self.arguments)}".rstrip()


class Session:
    """The order of requests and replies."""

    def __init__(self) -> None:
        """Begin a connection: RESP2, no name, no transaction."""
        self.client: str | None = None
        self.spoken = 2
        """What the server speaks now, while replies to what came before a HELLO may still be under way."""
        self.streaming = False
        """Whether the server may send anything at any time from now on (MONITOR, replication)."""
        self._number = 0
        self._waiting: deque[Exchange] = deque()
        self._in_multi = False
        self._company: list[Exchange] = []
        self._replies_off = False
        self._skip_next = False
        self._subscribed: dict[str, set[bytes]] = {name: set() for name in _SUBSCRIBING}

    @property
    def outstanding(self) -> int:
        """Requests that wait for something."""
        return len(self._waiting)

    @property
    def protocol(self) -> int:
        """The protocol in which the next request will be answered: 3 once HELLO asked for it, unless it was refused."""
        asked = (one.protocol for one in reversed(self._waiting) if one.protocol is not None)
        return next(asked, self.spoken)

    @property
    def head(self) -> Exchange | None:
        """The request whose reply is due next."""
        return self._waiting[0] if self._waiting else None

    def request(self, frame: Frame) -> Exchange | None:
        """Take note of the next request; None for an empty line, which is no request."""
        arguments = arguments_of(frame)
        if not arguments:
            return None
        name = name_of(arguments)
        exchange = Exchange(self._number, name, arguments, keys_of(name, arguments), self.client, frame.size)
        self._number += 1
        self._expect(exchange)
        return exchange

    def ghost(self, arguments: tuple[bytes, ...]) -> Exchange:
        """Take note of a request that the proxy itself sends now; its reply is to be swallowed."""
        exchange = Exchange(-1, name_of(arguments), arguments, (), self.client, 0, ghost=True)
        self._waiting.append(exchange)
        return exchange

    def forget(self, exchange: Exchange) -> None:
        """The server will not answer this request, since it never got it."""
        if exchange in self._waiting:
            self._waiting.remove(exchange)

    def is_push(self, frame: Frame) -> bool:
        """Tell whether a frame from the server answers no request, or only confirms a subscription; take note.

        Ask once for each frame. RESP3 has a type of its own for pushes: there an array is a reply, whatever it holds.
        """
        if frame.kind not in _RESP2:  # whoever joined in the middle has not seen the HELLO
            self.spoken = 3
        is_push = self._is_push(frame)
        if not is_push:
            self._note_protocol(frame)
        return is_push

    def _is_push(self, frame: Frame) -> bool:
        push = frame.kind == b">"
        if frame.passed_bytes:
            return push
        if not push and (self.spoken == 3 or frame.kind != b"*"):
            return False
        if not push and not self._confirming and not any(self._subscribed.values()):
            return False
        words = _words(frame)
        if words[:1] and words[0] in _CONFIRMATIONS and (push or self._confirming):
            self._confirm(words)
            return True
        return push or (words[:1] != [] and words[0] in _PUBLISHED)

    def answer(self) -> Exchange | None:
        """The reply at hand is complete: return the request that it answered; None when none was due."""
        return self._waiting.popleft() if self._waiting else None

    @property
    def _confirming(self) -> bool:
        return bool(self._waiting) and not self._waiting[0].answered

    def _note_protocol(self, reply: Frame) -> None:
        """Follow what the request that is answered now has done to the server's words."""
        if self.head is not None and self.head.protocol is not None and reply.kind != b"-":
            self.spoken = self.head.protocol

    def _expect(self, exchange: Exchange) -> None:
        self._note(exchange)
        words = exchange.words
        if words == "CLIENT REPLY":
            self._client_reply(exchange)
            return
        if self._replies_off or self._skip_next:
            exchange.answered = self._skip_next = False
            self.spoken = exchange.protocol or self.spoken
            return
        if exchange.name in _SUBSCRIBING or exchange.name in _UNSUBSCRIBING:
            exchange.answered = self._in_multi
        self._waiting.append(exchange)

    def _note(self, exchange: Exchange) -> None:
        """Follow what a request changes about the connection."""
        arguments = [argument.upper() for argument in exchange.arguments]
        if exchange.name == "MULTI":
            self._in_multi = True
            self._company = []
        if self._in_multi:
            self._company.append(exchange)
            exchange.company = self._company
        if exchange.name in ("EXEC", "DISCARD", "RESET"):
            self._in_multi = False
        elif exchange.words == "CLIENT SETNAME" and len(arguments) > 2:
            self._rename(exchange, exchange.arguments[2])
        elif exchange.name == "HELLO":
            if arguments[1:2] in ([b"2"], [b"3"]):
                exchange.protocol = int(arguments[1])
            if b"SETNAME" in arguments[:-1]:
                self._rename(exchange, exchange.arguments[arguments.index(b"SETNAME") + 1])
        if exchange.name == "RESET":
            exchange.protocol = 2
            self.client = None
            for channels in self._subscribed.values():
                channels.clear()
        self.streaming = self.streaming or exchange.name in _STREAMING

    def _rename(self, exchange: Exchange, name: bytes) -> None:
        self.client = exchange.client = name.decode("utf-8", "backslashreplace")

    def _client_reply(self, exchange: Exchange) -> None:
        """CLIENT REPLY ON is answered; OFF and SKIP are not, nor what SKIP precedes."""
        mode = exchange.arguments[2].upper() if len(exchange.arguments) > 2 else b""
        if mode == b"OFF":
            self._replies_off = True
        elif mode == b"SKIP":
            self._skip_next = not self._replies_off
        elif mode == b"ON":
            self._replies_off = False
        if mode in (b"OFF", b"SKIP") or self._replies_off:
            exchange.answered = False
        else:
            self._waiting.append(exchange)

    def _confirm(self, words: list[bytes]) -> None:
        """One channel was subscribed or unsubscribed; the request is answered with its last channel."""
        kind = words[0].decode().upper()
        held = self._subscribed[_UNSUBSCRIBING.get(kind, kind)]
        waiting = next((one for one in list(self._waiting)[:1] if one.name == kind and not one.answered), None)
        if waiting is not None and waiting.confirmations is None:
            waiting.confirmations = len(waiting.arguments) - 1 or max(1, len(held))
        if len(words) > 1:
            (held.discard if kind in _UNSUBSCRIBING else held.add)(words[1])
        if waiting is not None and waiting.confirmations is not None:
            waiting.confirmations -= 1
            if not waiting.confirmations:
                self._waiting.popleft()


def _words(frame: Frame) -> list[bytes]:
    """Return the first two items of an array or push if they are bulks or lines."""
    found: list[bytes] = []
    raw = frame.raw
    position = raw.find(b"\n") + 1
    while len(found) < 2 and 0 < position < len(raw):
        start = raw.index(b"\n", position) + 1
        if raw[position : position + 1] == b"$":
            size = int(raw[position + 1 : start - 2])
            found.append(raw[start : start + max(0, size)])
            position = start + size + 2 if size >= 0 else start  # a null has no body, and no line end of one
        elif raw[position : position + 1] == b"+":
            found.append(raw[position + 1 : start - 2])
            position = start
        else:
            break
    return found
