"""Answers as Go's encoding/json writes them: no blanks, and nothing that a browser could take for markup."""

from __future__ import annotations

import json
import struct
from typing import Any

_MARKUP = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_DIGITS_MAX = 9


def encode(value: Any) -> bytes:
    """Return the JSON of a value made of dicts, lists, strings, numbers, booleans and None."""
    document = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return document.translate(_MARKUP).encode("utf-8", "replace")


def shortest(number: float) -> float | int:
    """Return the shortest decimal that stands for the same number of single precision."""
    for digits in range(1, _DIGITS_MAX):
        candidate = float(f"{number:.{digits}g}")
        if struct.pack("f", candidate) == struct.pack("f", number):
            break
    else:
        candidate = float(f"{number:.{_DIGITS_MAX}g}")
    return int(candidate) if candidate.is_integer() else candidate
