"""The numbers that faults draw: their distributions, their correlation, and that the seed decides them."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos._seeds import stream
from chaos.faults.network.draws import DISTRIBUTIONS, Draws

COUNT = 4000


def _deviations(distribution: str, correlation: float, seed: int = 5) -> list[float]:
    draws = Draws(stream(seed), correlation)
    return [draws.deviation(distribution) for _ in range(COUNT)]


def _autocorrelation(values: list[float]) -> float:
    mean = fmean(values)
    spread = sum((value - mean) ** 2 for value in values)
    return sum((one - mean) * (two - mean) for one, two in pairwise(values)) / spread


@given(seed=st.integers(0, 2**53), correlation=st.floats(0, 1), distribution=st.sampled_from(DISTRIBUTIONS))
def test_deviations_stay_within_their_bounds(seed: int, correlation: float, distribution: str) -> None:
    """Whatever the seed, no draw lies outside what the docstring says."""
    low, high = {"uniform": (-1, 1), "normal": (-4, 4), "pareto": (-0.5774, 20)}[distribution]
    draws = Draws(stream(seed), correlation)
    for _ in range(20):
        assert low <= draws.deviation(distribution) <= high


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize(("distribution", "spread"), [("uniform", 0.577), ("normal", 1.0), ("pareto", 1.0)])
def test_mean_and_spread_are_those_declared_with_and_without_correlation(
    distribution: str, spread: float, correlation: float
) -> None:
    """A correlation does not narrow the distribution, as mixing draws would."""
    values = _deviations(distribution, correlation)
    assert abs(fmean(values)) < 0.1
    # The sample deviation of a heavy tail wanders: its fourth moment is infinite.
    assert pstdev(values) == pytest.approx(spread, rel=0.5 if distribution == "pareto" else 0.05)


def test_distributions_differ_in_shape() -> None:
    """Pareto is mostly below its mean and rarely far above; normal leaves the range of uniform."""
    uniform, normal, pareto = (sorted(_deviations(name, 0)) for name in DISTRIBUTIONS)
    assert uniform[-1] <= 1 < normal[-1]
    assert pareto[COUNT // 2] < -0.2
    assert pareto[-1] > 4
    assert abs(normal[COUNT // 2]) < 0.1


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_successive_draws_are_as_alike_as_asked_for(correlation: float) -> None:
    """The correlation of each draw with the next is that of the parameter."""
    assert _autocorrelation(_deviations("normal", correlation)) == pytest.approx(correlation, abs=0.06)


def test_correlation_of_one_repeats_the_first_draw() -> None:
    """The extreme: one draw for each direction of each connection."""
    draws = Draws(stream(3), 1.0)
    first = draws.share()
    assert [draws.share() for _ in range(5)] == [first] * 5


def test_draws_repeat_with_the_stream_and_differ_between_streams() -> None:
    """The seed decides; streams of other connections and sides give other numbers."""
    paths = [(7, 0, "request"), (7, 0, "reply"), (7, 1, "request"), (8, 0, "request")]

    def values(path: tuple[int | str, ...]) -> tuple[float, ...]:
        draws = Draws(stream(int(path[0]), *path[1:]), 0.5)
        return tuple(draws.share() for _ in range(5))

    assert values(paths[0]) == values(paths[0])
    assert len({values(path) for path in paths}) == len(paths)
