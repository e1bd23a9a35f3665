"""JSON as Go's decoder reads it from a stream: one value, whatever follows is left alone, and Go's words for errors.

The rules are those of encoding/json, `Decoder.Decode`: a blank text is `EOF`, a text that ends too early is
`unexpected EOF`, bytes that are not UTF-8 become U+FFFD, and so do surrogates that stand alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

DEPTH_MAX = 10_000
"""How deep arrays and objects may nest, as in Go."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MORE = (b".", b"e", b"E")
_BLANKS = frozenset(b" \t\r\n")
_LITERALS: dict[int, tuple[bytes, bool | None]] = {
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
    ord("n"): (b"null", None),
}
_ESCAPES = {
    ord('"'): '"',
    ord("\\"): "\\",
    ord("/"): "/",
    ord("b"): "\b",
    ord("f"): "\f",
    ord("n"): "\n",
    ord("r"): "\r",
    ord("t"): "\t",
}
_QUOTED = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 39: r"\'", 92: r"\\"}
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Number(NamedTuple):
    """A number as it was written: what becomes of it depends on the field it is for."""

    text: str


@dataclass(frozen=True)
class Object:
    """An object: its members in order, repeated names included."""

    members: list[tuple[str, Value]]


Value = str | bool | None | Number | Object | list["Value"]


class BadJson(ValueError):
    """What Go says about a text that is not JSON."""


def decode(text: bytes) -> Value:
    """Return the first value in `text`. Raises BadJson."""
    return _Scanner(text).value()


class _Scanner:
    """One pass over a text. It keeps its own stack, so that no depth of nesting can exhaust ours."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0
        self._stack: list[list[Value] | Object] = []
        self._keys: list[str] = []

    def value(self) -> Value:
        """Read one value."""
        if self._blank():
            raise BadJson("EOF")
        while True:
            value, is_open = self._begin()
            while not is_open:
                if not self._stack:
                    return value
                value, is_open = self._end_of(value)

    def _begin(self) -> tuple[Value, bool]:
        """Read a scalar, or the opening of a container, as far as the place where the next value begins.

        The second item is False when the value is complete.
        """
        self._skip()
        byte = self._byte()
        if byte == ord("{"):
            return self._open(Object([]))
        if byte == ord("["):
            return self._open([])
        if byte == ord('"'):
            return self._string(), False
        if byte in _LITERALS:
            return self._literal(*_LITERALS[byte]), False
        if byte == ord("-") or byte in b"0123456789":
            return self._number(), False
        raise self._unexpected("looking for beginning of value")

    def _open(self, container: list[Value] | Object) -> tuple[Value, bool]:
        if len(self._stack) >= DEPTH_MAX:
            raise self._unexpected("exceeded max depth")
        self._at += 1
        self._skip()
        if isinstance(container, Object):
            if self._byte() == ord("}"):
                self._at += 1
                return container, False
            self._stack.append(container)
            self._key()
        else:
            if self._byte() == ord("]"):
                self._at += 1
                return container, False
            self._stack.append(container)
        return container, True

    def _end_of(self, value: Value) -> tuple[Value, bool]:
        """Put a complete value where it belongs, and read what stands behind it."""
        container = self._stack[-1]
        self._skip()
        byte = self._byte()
        if isinstance(container, Object):
            container.members.append((self._keys.pop(), value))
            closing, place = ord("}"), "after object key:value pair"
        else:
            container.append(value)
            closing, place = ord("]"), "after array element"
        if byte == closing:
            self._at += 1
            self._stack.pop()
            return container, False
        if byte != ord(","):
            raise self._unexpected(place)
        self._at += 1
        if isinstance(container, Object):
            self._skip()
            self._byte()
            self._key()
        return container, True

    def _key(self) -> None:
        if self._byte() != ord('"'):
            raise self._unexpected("looking for beginning of object key string")
        self._keys.append(self._string())
        self._skip()
        if self._byte() != ord(":"):
            raise self._unexpected("after object key")
        self._at += 1

    def _string(self) -> str:
        self._at += 1
        parts: list[str] = []
        while True:
            match = _PLAIN.match(self._text, self._at)
            assert match is not None
            parts.append(match.group().decode("utf-8", "replace"))
            self._at = match.end()
            byte = self._byte()
            if byte == ord('"'):
                self._at += 1
                return _joined(parts)
            if byte != ord("\\"):
                raise self._unexpected("in string literal")
            parts.append(self._escape())

    def _escape(self) -> str:
        self._at += 1
        byte = self._byte()
        if byte == ord("u"):
            self._at += 1
            start = self._at
            while self._at < start + 4:
                if self._byte() not in _HEX:
                    raise self._unexpected("in \\u hexadecimal character escape")
                self._at += 1
            return chr(int(self._text[start : self._at], 16))
        if byte not in _ESCAPES:
            raise self._unexpected("in string escape code")
        self._at += 1
        return _ESCAPES[byte]

    def _literal(self, word: bytes, value: bool | None) -> bool | None:
        for expected in word:
            if self._byte() != expected:
                raise self._unexpected(f"in literal {word.decode()} (expecting {_quoted(expected)})")
            self._at += 1
        return value

    def _number(self) -> Number:
        match = _NUMBER.match(self._text, self._at)
        if match is None:  # a minus sign and something else
            self._at += 1
            self._byte()
            raise self._unexpected("in numeric literal")
        self._at = match.end()
        number = match.group()
        rest = self._text[self._at : self._at + 2]
        if rest[:1] in _MORE and b"e" not in number.lower() and not (rest[:1] == b"." and b"." in number):
            is_fraction = rest[:1] == b"."
            self._at += 2 if not is_fraction and rest[1:] in (b"+", b"-") else 1
            self._byte()
            part = "after decimal point in" if is_fraction else "in exponent of"
            raise self._unexpected(f"{part} numeric literal")
        return Number(number.decode())

    def _skip(self) -> None:
        if self._at < len(self._text) and self._text[self._at] in _BLANKS:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()

    def _blank(self) -> bool:
        self._skip()
        return self._at == len(self._text)

    def _byte(self) -> int:
        if self._at >= len(self._text):
            raise BadJson("unexpected EOF")
        return self._text[self._at]

    def _unexpected(self, place: str) -> BadJson:
        return BadJson(f"invalid character {_quoted(self._text[self._at])} {place}")


def _joined(parts: list[str]) -> str:
    """Return one text; pairs of surrogates become the character they stand for, single ones U+FFFD."""
    if len(parts) == 1:
        return parts[0]
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _quoted(byte: int) -> str:
    """Return a byte as Go shows it in an error: as the character of that number."""
    character = chr(byte)
    if byte in _QUOTED:
        character = _QUOTED[byte]
    elif byte < 0x20 or byte == 0x7F:
        character = f"\\x{byte:02x}"
    elif 0x80 <= byte < 0xA1 or byte == 0xAD:
        character = f"\\u{byte:04x}"
    return f"'{character}'"
