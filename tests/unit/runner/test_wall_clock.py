"""The wall clock of a process jumps and comes back; its monotonic clock does not notice."""

from __future__ import annotations

import time

from chaos.runner import wall_clock


def test_a_shifted_clock_is_given_back() -> None:
    """Both functions tell the shift, forwards and backwards, and afterwards are those of the interpreter."""
    plain = (time.time, time.time_ns)
    before_s, steady_s = time.time(), time.monotonic()
    try:
        assert wall_clock.shift(3600.0) == 2
        assert 3500 < time.time() - before_s < 3700
        assert wall_clock.shift(-3600.0) == 2
        assert -3700 < time.time_ns() / 1e9 - before_s < -3500
        assert 0 <= time.monotonic() - steady_s < 60
    finally:
        assert wall_clock.shift(0.0) == 0
    assert (time.time, time.time_ns) == plain
