"""Exact quantiles and the summary of a series of times."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed (nearest rank).

    ordered: ascending, not empty. share: above 0, at most 1. No value is invented between two that were measured, so
    the 0.99 of fewer than 100 values is the greatest of them.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A series of times in milliseconds. All but `count` and `errors` are None when nothing succeeded."""

    count: int
    errors: int = 0
    unknown: int = 0
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def summarize(seconds: Iterable[float], *, errors: int = 0, unknown: int = 0) -> Summary:
    """Return the summary of times in seconds of what succeeded, and of how many did not or may not have.

    Microseconds are kept, so that equal measurements give equal text.
    """
    ordered = sorted(seconds)
    if not ordered:
        return Summary(count=0, errors=errors, unknown=unknown)

    def milliseconds(value_s: float) -> float:
        return round(value_s * 1000, 3)

    return Summary(
        count=len(ordered),
        errors=errors,
        unknown=unknown,
        mean_ms=milliseconds(math.fsum(ordered) / len(ordered)),
        p50_ms=milliseconds(quantile(ordered, 0.5)),
        p95_ms=milliseconds(quantile(ordered, 0.95)),
        p99_ms=milliseconds(quantile(ordered, 0.99)),
        max_ms=milliseconds(ordered[-1]),
    )


class Series:
    """Times of one operation on one store, as they come; 16 bytes each."""

    def __init__(self) -> None:
        """Nothing was measured."""
        self.began_s = array("d")
        self.took_s = array("d")
        self.failed_s = array("d")
        self.unknown_s = array("d")

    def ok(self, began_s: float, took_s: float) -> None:
        """Note one that succeeded: when it began, on any clock in seconds, and how long it took."""
        self.began_s.append(began_s)
        self.took_s.append(took_s)

    def failed(self, began_s: float) -> None:
        """Note one that certainly had no effect."""
        self.failed_s.append(began_s)

    def unknown(self, began_s: float) -> None:
        """Note one that may have had its effect; neither a success nor a failure."""
        self.unknown_s.append(began_s)

    def summary(self) -> Summary:
        """Return the exact summary."""
        return summarize(self.took_s, errors=len(self.failed_s), unknown=len(self.unknown_s))

    def timeline(self, bin_s: float = 1.0) -> list[dict[str, Any]]:
        """Return a summary for each `bin_s` seconds of beginnings in which there was one, with `at_s` its start."""
        bins: dict[int, Series] = {}
        for began_s, took_s in zip(self.began_s, self.took_s, strict=True):
            bins.setdefault(int(began_s // bin_s), Series()).ok(began_s, took_s)
        for began_s in self.failed_s:
            bins.setdefault(int(began_s // bin_s), Series()).failed(began_s)
        for began_s in self.unknown_s:
            bins.setdefault(int(began_s // bin_s), Series()).unknown(began_s)
        return [{"at_s": number * bin_s, **bins[number].summary().to_json()} for number in sorted(bins)]
