"""What faults draw from the seed: shares and deviations, each following on from the one before it if told so."""

from __future__ import annotations

import math
from random import Random
from statistics import NormalDist

DISTRIBUTIONS = ("uniform", "normal", "pareto")

_NORMAL = NormalDist()
_NORMAL_MAX = 4.0
_PARETO_SHAPE = 3.0
_PARETO_MEAN = _PARETO_SHAPE / (_PARETO_SHAPE - 1)
_PARETO_DEVIATION = math.sqrt(_PARETO_SHAPE / (_PARETO_SHAPE - 2)) / (_PARETO_SHAPE - 1)
_PARETO_MAX = 20.0


class Draws:
    """Numbers from one stream, each correlated with the one before.

    The correlation is that of a first-order autoregressive process on the normal scale, and what is drawn from it
    keeps its distribution whatever the correlation is. (netem(8) mixes successive uniform numbers instead, so its
    values crowd around the middle as its correlation grows.) 0 draws independently; 1 repeats the first draw.
    """

    def __init__(self, rng: Random, correlation: float = 0.0) -> None:
        """Draw from `rng` alone; `correlation` is within [0, 1]."""
        self._rng = rng
        self._correlation = correlation
        self._innovation = math.sqrt(1 - correlation * correlation)
        self._last: float | None = None

    def share(self) -> float:
        """Return a number that is uniform over [0, 1]."""
        if not self._correlation:
            return self._rng.random()
        fresh = self._rng.gauss(0, 1)
        if self._last is None:
            self._last = fresh
        else:
            self._last = self._correlation * self._last + self._innovation * fresh
        return _NORMAL.cdf(self._last)

    def deviation(self, distribution: str) -> float:
        """Return by how many jitters a value deviates from its middle.

        uniform: within [-1, 1]. normal: mean 0 and standard deviation 1, cut off at four. pareto: of shape 3, moved
        and scaled to the same mean and deviation, so at least -0.577, mostly a little below 0, and now and then far
        above; cut off at twenty.
        """
        share = self.share()
        if distribution == "uniform":
            return 2 * share - 1
        if distribution == "normal":
            inside = min(max(share, 1e-9), 1 - 1e-9)
            return max(-_NORMAL_MAX, min(_NORMAL_MAX, _NORMAL.inv_cdf(inside)))
        value = math.pow(max(1 - share, 1e-9), -1 / _PARETO_SHAPE)
        return min(_PARETO_MAX, (value - _PARETO_MEAN) / _PARETO_DEVIATION)
