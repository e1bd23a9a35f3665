"""The wall clock that Python code of this process reads, shifted on demand.

Only the names in the module `time` are replaced, and only once a shift was asked for: a process without one runs the
functions of the interpreter. Monotonic clocks stay what they are.
"""

from __future__ import annotations

import time

_true = (time.time, time.time_ns)
_shift_ns = 0


def _time() -> float:
    return _true[0]() + _shift_ns / 1e9


def _time_ns() -> int:
    return _true[1]() + _shift_ns


def shift(by_s: float) -> int:
    """Let `time.time` and `time.time_ns` tell `by_s` seconds more than is true; return how many clocks then differ.

    0.0 gives the interpreter's functions back.
    """
    global _shift_ns  # one process has one wall clock
    _shift_ns = round(by_s * 1e9)
    time.time, time.time_ns = (_time, _time_ns) if _shift_ns else _true
    errors_s = (time.time() - _true[0](), (time.time_ns() - _true[1]()) / 1e9)
    return sum(abs(error_s) > abs(by_s) / 2 for error_s in errors_s) if by_s else 0
