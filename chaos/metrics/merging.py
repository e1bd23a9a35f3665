"""Series of many runs in one: HdrHistogram, used only where values of several processes are merged and kept.

Within one run quantiles are exact. Over thousands of runs the values themselves are too many, so they are counted in
buckets of three significant digits (`pip install 'chaos-harness[metrics]'`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chaos.errors import EnvironmentUnavailable

_LOWEST_US = 1
_HIGHEST_US = 3_600_000_000
_DIGITS = 3


def histogram(seconds: Iterable[float]) -> str:
    """Return times as an encoded histogram of microseconds: about 10 KB of text, whatever their number.

    Raises EnvironmentUnavailable when the library is not installed.
    """
    made = _library().HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
    for value_s in seconds:
        made.record_value(min(max(round(value_s * 1e6), _LOWEST_US), _HIGHEST_US))
    encoded: bytes = made.encode()
    return encoded.decode()


def merged(texts: Iterable[str]) -> dict[str, float]:
    """Return count, p50_ms, p95_ms, p99_ms and max_ms of all encoded histograms together, to 0.1 %."""
    library = _library()
    total = library.HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
    for text in texts:
        total.add(library.HdrHistogram.decode(text))
    found = {f"p{share}_ms": total.get_value_at_percentile(share) / 1000 for share in (50, 95, 99)}
    return {"count": float(total.get_total_count()), **found, "max_ms": total.get_max_value() / 1000}


def _library() -> Any:
    try:
        import hdrh.histogram as library
    except ImportError as error:
        raise EnvironmentUnavailable("hdrhistogram is not installed", "pip install 'chaos-harness[metrics]'") from error
    return library
