"""The fields of a body, with Go's rules: names in any case, null keeps what is there, integers written as integers.

A field of the wrong type is told in the words of encoding/json, the first one in the order of the text. Unlike in
Go nothing is applied then: not even the fields before it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from chaos.faults.network.api.failure import bad_body
from chaos.faults.network.api.scanner import BadJson, Number, Object, Value, decode

Reader = Callable[[Value], Any]
"""Turns a value into that of a field. Raises Misfit."""

_INTEGER_BITS = 64


class Misfit(Exception):
    """A value that a field cannot hold. `into` is Go's name of the place, once it is known."""

    def __init__(self, value: str, go_type: str, into: str = "") -> None:
        """`value` is what Go calls it: string, number 1.5, ..."""
        super().__init__(f"json: cannot unmarshal {value} into Go {into or 'value'} of type {go_type}")
        self.value = value
        self.go_type = go_type
        self.into = into


def body(text: bytes) -> Value:
    """Return the value that a request's body begins with. Raises ApiError."""
    try:
        return decode(text)
    except BadJson as error:
        raise bad_body(str(error)) from error


def read_fields(
    value: Value, readers: Mapping[str, Reader], *, go_type: str, struct_name: str, path: str = ""
) -> dict[str, Any]:
    """Return the fields of an object that are given and not null; the last of several wins.

    `readers` has the lower-case name of each field; others are ignored. `go_type`, `struct_name` and `path` are
    how Go names the object, its struct and the way to it in errors. Raises Misfit.
    """
    if value is None:
        return {}
    if not isinstance(value, Object):
        raise Misfit(_kind(value), go_type)
    found: dict[str, Any] = {}
    for key, member in value.members:
        name = _folded(key)
        if name not in readers or member is None:
            continue
        try:
            found[name] = readers[name](member)
        except Misfit as error:
            if error.into:
                raise
            raise Misfit(error.value, error.go_type, f"struct field {struct_name}.{path}{name}") from None
    return found


def text(value: Value) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise Misfit(_kind(value), "string")
    return value


def flag(value: Value) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise Misfit(_kind(value), "bool")
    return value


def integer(go_type: str) -> Reader:
    """Return the reader of a whole number, written as one: 100.0 and 1e2 are none."""

    def _read(value: Value) -> int:
        if not isinstance(value, Number):
            raise Misfit(_kind(value), go_type)
        limit = 1 << (_INTEGER_BITS - 1)
        digits = value.text.removeprefix("-")
        if not digits.isdigit() or len(digits) > len(str(limit)) or not -limit <= int(value.text) < limit:
            raise Misfit(f"number {value.text}", go_type)
        return int(value.text)

    return _read


def single(value: Value) -> float:
    """Read a number of single precision, as Toxiproxy keeps a toxicity."""
    if not isinstance(value, Number):
        raise Misfit(_kind(value), "float32")
    try:
        (rounded,) = struct.unpack("f", struct.pack("f", float(value.text)))
    except OverflowError:
        rounded = math.inf
    if math.isinf(rounded):
        raise Misfit(f"number {value.text}", "float32")
    return float(rounded)


def raw(value: Value) -> Value:
    """Leave a value for later."""
    return value


def _kind(value: Value) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case Number():
            return "number"
        case Object():
            return "object"
    return "array"


def _folded(key: str) -> str:
    """Return a key in lower case, by the simple folding of Unicode, in which no letter becomes two."""
    return "".join(folded if len(folded := letter.casefold()) == 1 else letter for letter in key)
