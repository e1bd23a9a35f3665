"""Where a frame of Redis' protocol (RESP2, RESP3, inline commands) ends, for bytes that come cut anywhere.

A framer gives back the very bytes it was given, one piece for each frame. It looks at lengths and counts only, so
it knows every type that there is without knowing what it means. hiredis decodes faster, but keeps no bytes: it
would force the proxy to write frames anew, and what the proxy does not touch must arrive as it was sent.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

PART_BYTES_MAX = 8 * 1024 * 1024
"""An unfinished frame larger than this is passed on in parts, and no rule acts on it."""

HEAD_BYTES = 4096
"""What is remembered of how such a frame began: enough for its command and its first keys."""

LINE_BYTES_MAX = 64 * 1024
"""The longest line without its end; the server's own limit for an inline command."""

_DEPTH_MAX = 64
_COUNT_MAX = 2**31
_BULK_BYTES_MAX = 2**32

_LINES = b"+-:,#(_"
_BULKS = b"$!="
_AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}
"""Types that hold others, with how many items each of their count stands for."""

_ATTRIBUTE = ord("|")
_TYPED = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*\r?")
_ARRAY = ord("*")
_BULK = ord("$")


class _Step(enum.Enum):
    """How far one step went: not at all for now, into something, or past the end of an item."""

    WAIT = enum.auto()
    MORE = enum.auto()
    ITEM = enum.auto()


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame. `raw` are its bytes; `passed_bytes` of it were given out as parts before, 0 as a rule.

    kind: the frame's first byte, by which the protocol names its type. head: how a frame began that was passed on in
    parts, empty for one that is whole.
    """

    raw: bytes
    kind: bytes
    passed_bytes: int = 0
    head: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the whole frame."""
        return len(self.raw) + self.passed_bytes


class Framer:
    """One direction of one connection.

    `reason` says why the bytes cannot be understood; None while they can. From then on `feed` returns nothing
    and `rest` holds everything that was not returned.
    """

    def __init__(self, *, requests: bool) -> None:
        """Start at the beginning of a frame. `requests`: what a client sends, inline commands among it."""
        self.reason: str | None = None
        self._requests = requests
        self._buffer = bytearray()
        self._position = 0  # all before it is understood
        self._body = 0  # bytes, with their line end, that the bulk at hand still has
        self._open: list[int] = []  # items that each aggregate around the position still lacks
        self._passed = 0
        self._head = b""

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not finished."""
        return len(self._buffer)

    @property
    def between_frames(self) -> bool:
        """Whether the next byte begins a frame."""
        return not self._buffer and not self._passed and self.reason is None

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and return the frames that they finish."""
        self._buffer += data
        frames: list[Frame] = []
        while self.reason is None and self._buffer and self._scan():
            raw = bytes(self._buffer[: self._position])
            if self._passed:
                frames.append(Frame(raw, self._head[:1], self._passed, self._head))
            else:
                frames.append(Frame(raw, raw[:1]))
            del self._buffer[: self._position]
            self._position = self._passed = 0
        return frames

    def part(self) -> bytes:
        """Give out what is there of an unfinished frame, to be passed on; the frame goes on behind it."""
        if self._body > 2:  # the end of the body stays, since its line end is yet to be looked at
            given = min(len(self._buffer) - self._position, self._body - 2)
            self._body -= given
            self._position += given
        part = bytes(self._buffer[: self._position])
        self._head = self._head if self._passed else part[:HEAD_BYTES]
        del self._buffer[: self._position]
        self._passed += len(part)
        self._position = 0
        return part

    def rest(self) -> bytes:
        """Give out all bytes that are here, and start anew at a frame's beginning."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._open.clear()
        self._position = self._body = self._passed = 0
        self.reason = None
        return rest

    def _scan(self) -> bool:
        """Move on as far as the bytes reach; True at the end of a frame."""
        while True:
            step = self._skip_body() if self._body else self._read_line()
            if step is _Step.WAIT:
                return False
            if step is _Step.ITEM and self._item_done():
                return True

    def _skip_body(self) -> _Step:
        end = self._position + self._body
        if len(self._buffer) < end:
            return _Step.WAIT
        if self._buffer[end - 2 : end] != b"\r\n":
            return self._give_up("a bulk does not end where its length says")
        self._position = end
        self._body = 0
        return _Step.ITEM

    def _read_line(self) -> _Step:
        """Understand one line and begin what it announces."""
        end = self._buffer.find(b"\n", self._position)
        if end < 0:
            if len(self._buffer) - self._position > LINE_BYTES_MAX:
                return self._give_up(f"a line of more than {LINE_BYTES_MAX} bytes")
            return _Step.WAIT
        kind = self._buffer[self._position]
        line = bytes(self._buffer[self._position + 1 : end])
        if self._requests and not self._open and kind != _ARRAY:
            if not _TYPED.fullmatch(self._buffer, self._position, end):
                return self._give_up("a line that nobody would type as a command")
            self._position = end + 1
            return _Step.ITEM  # an inline command, or the empty line that servers let pass
        if not line.endswith(b"\r"):
            return self._give_up("a line that does not end with CR LF")
        step = self._begin(kind, line[:-1])
        if self.reason is None:
            self._position = end + 1
        return step

    def _begin(self, kind: int, line: bytes) -> _Step:
        if kind in _LINES and not self._requests:
            return _Step.ITEM
        count = number(line)
        if count is None or (kind not in _BULKS and kind not in _AGGREGATES):
            return self._give_up(f"{bytes([kind])!r} where a frame or an item should begin")
        if kind in _AGGREGATES:
            return self._begin_aggregate(kind, count)
        if self._requests and (kind != _BULK or count < 0):
            return self._give_up("an argument that is no bulk")
        if count > _BULK_BYTES_MAX:
            return self._give_up(f"a bulk of {count} bytes")
        if count < 0:
            return _Step.ITEM
        self._body = count + 2
        return _Step.MORE

    def _begin_aggregate(self, kind: int, count: int) -> _Step:
        if self._requests and (kind != _ARRAY or self._open):
            return self._give_up("a request that is no flat array")
        if count > _COUNT_MAX or len(self._open) >= _DEPTH_MAX:
            return self._give_up(f"an aggregate of {count} items at depth {len(self._open)}")
        items = count * _AGGREGATES[kind] + (kind == _ATTRIBUTE)  # an attribute belongs to what follows it
        if items <= 0:
            return _Step.ITEM
        self._open.append(items)
        return _Step.MORE

    def _item_done(self) -> bool:
        """Count a finished item; True when the frame is finished with it."""
        while self._open:
            self._open[-1] -= 1
            if self._open[-1]:
                return False
            self._open.pop()
        return True

    def _give_up(self, reason: str) -> _Step:
        self.reason = reason
        return _Step.WAIT


def number(line: bytes) -> int | None:
    """Return the whole number that is written there; None for anything else, one of more than 12 digits among it."""
    digits = line[1:] if line[:1] == b"-" else line
    return int(line) if digits.isdigit() and len(digits) <= 12 else None
