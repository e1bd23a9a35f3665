from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from chaos.errors import StoreInDoubt, StoreUnavailable
from chaos.metrics.quantiles import Series, quantile, summarize
from chaos.metrics.recorder import Recorder

TIMES = st.lists(st.floats(0, 1000), min_size=1, max_size=300)


@given(TIMES, st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_a_measured_value_with_enough_below_it(values: list[float], share: float) -> None:
    """It is one of the values; at least the share of them are not above it, and fewer would not do."""
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    below = sum(value < found for value in ordered)
    assert below < share * len(ordered) or below == 0


def test_a_summary_is_exact() -> None:
    """Of 1 to 100 ms the quantiles are those numbers; what failed is counted apart."""
    summary = summarize([number / 1000 for number in range(100, 0, -1)], errors=2, unknown=1)
    assert (summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.max_ms, summary.mean_ms) == (50, 95, 99, 100, 50.5)
    assert (summary.count, summary.errors, summary.unknown) == (100, 2, 1)
    assert summarize([], errors=3).p50_ms is None


def test_a_recorder_keeps_failed_and_unknown_apart() -> None:
    """An error is a failure, in doubt is neither; each goes on to the caller."""
    now = iter([0.0, 1.0, 1.5, 2.0, 3.0])
    recorder = Recorder(clock=lambda: next(now))
    with recorder.timing("redis", "get"):
        pass
    for error in (StoreUnavailable("redis", "no"), StoreInDoubt("redis", "perhaps")):
        with pytest.raises(type(error)), recorder.timing("redis", "get"):
            raise error
    [told] = recorder.operations()
    assert (told["count"], told["errors"], told["unknown"], told["max_ms"]) == (1, 1, 1, 500.0)
    assert [one["at_s"] for one in recorder.of("redis", "get").timeline()] == [1.0, 2.0, 3.0]


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1)), max_size=50))
def test_a_timeline_loses_nothing(pairs: list[tuple[float, float]]) -> None:
    """The counts by second add up, and each second's greatest is that of those that began in it."""
    series = Series()
    for began_s, took_s in pairs:
        series.ok(began_s, took_s)
    bins = series.timeline()
    assert sum(one["count"] for one in bins) == len(pairs)
    for one in bins:
        inside = [took for began, took in pairs if math.floor(began) == one["at_s"]]
        assert one["max_ms"] == round(max(inside) * 1000, 3)
