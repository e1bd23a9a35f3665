"""Is it slower than it was? Hard limits first, then a rank test that says what it could have seen.

A difference of a few runs on a shared machine is mostly noise, and "no regression found" means little unless one knows
how small a regression would have been found. So each comparison tells its power. The test is Mann and Whitney's,
one-sided and exact (their paper's recurrence, Annals of Mathematical Statistics 18, 1947): it asks nothing of the
distribution but that repeats are independent, so alternate the versions and do not compare a warm machine with a cold
one. Values must be above 0 and larger when worse (times, bytes). The ratio is Hodges and Lehmann's estimate on
logarithms, with the interval that inverts the same test; it is exact as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from random import Random
from statistics import median, stdev
from typing import Any

import msgspec

REPEATS_MIN = 5
ALPHA = 0.01
RATIOS = (1.2, 1.5, 2.0)
_TRIALS = 2000
_SPREAD_MIN = 0.01


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What came of comparing `new` with `base`.

    verdict: "limit" (a hard limit was passed), "slower", "no difference seen", or "too few" repeats to say anything.
    p: chance of ranks like these if nothing had changed. ratio: new to base, with an interval of confidence
    1 - 2 * ALPHA, or the widest that so few values allow. power: for a slowdown by each ratio, how often this
    comparison would have told.
    """

    verdict: str
    base_median: float
    new_median: float
    limit: float | None = None
    p: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    power: dict[str, float] = {}

    def sentence(self, name: str) -> str:
        """Say it in one line."""
        text = f"{name}: {self.verdict}: median {self.new_median:g} against {self.base_median:g}"
        if self.limit is not None:
            text += f", limit {self.limit:g}"
        if self.p is not None:
            text += f", ratio {self.ratio:.2f} [{self.ratio_low:.2f}, {self.ratio_high:.2f}], p={self.p:.4f}"
            seen = ", ".join(f"x{ratio}: {share:.0%}" for ratio, share in self.power.items())
            text += f"; a slowdown would be told ({seen})"
        return text

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def compare(base: Sequence[float], new: Sequence[float], *, limit: float | None = None, seed: int = 0) -> Comparison:
    """Compare values of which larger is worse; `limit` must not be exceeded by any new one, whatever the base was.

    seed: for the simulation behind `power`; the same input gives the same answer. Raises ValueError for values that
    are not above 0, or none at all.
    """
    if not base or not new or min(*base, *new) <= 0:
        raise ValueError(
            f"values must be above 0 and there must be some: base={list(base)!r:.80}, new={list(new)!r:.80}"
        )
    medians = Comparison(verdict="too few", base_median=median(base), new_median=median(new), limit=limit)
    if limit is not None and max(new) > limit:
        return msgspec.structs.replace(medians, verdict="limit")
    if min(len(base), len(new)) < REPEATS_MIN:
        return medians
    p = p_value(base, new)
    low, ratio, high = ratio_interval(base, new)
    return msgspec.structs.replace(
        medians,
        verdict="slower" if p < ALPHA else "no difference seen",
        p=p,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        power=power(base, new, seed=seed),
    )


def p_value(base: Sequence[float], new: Sequence[float]) -> float:
    """Return the chance of at least so many pairs with new > base if all orders were alike; ties count for base."""
    wins = sum(n > b for n in new for b in base)
    return sum(_orders(len(base), len(new))[wins:]) / math.comb(len(base) + len(new), len(new))


def ratio_interval(base: Sequence[float], new: Sequence[float]) -> tuple[float, float, float]:
    """Return low end, estimate and high end of the factor from base to new."""
    ratios = sorted(math.log(n / b) for n in new for b in base)
    total = math.comb(len(base) + len(new), len(new))
    cut, below = 0, 0
    for orders in _orders(len(base), len(new)):
        below += orders
        if below / total > ALPHA or cut >= (len(ratios) - 1) // 2:
            break
        cut += 1
    cut = max(0, cut - 1)
    return math.exp(ratios[cut]), math.exp(median(ratios)), math.exp(ratios[-1 - cut])


def power(base: Sequence[float], new: Sequence[float], *, seed: int = 0) -> dict[str, float]:
    """Return, by ratio, how often a true slowdown of that size would be told with so many repeats and so much noise.

    Times are drawn from a log-normal distribution with the spread of the base, 1 % at least, in a simulation of
    2,000 comparisons: good to about 2 points of a hundred.
    """
    random = Random(seed)
    spread = max(_SPREAD_MIN, stdev([math.log(value) for value in base]))
    needed = _wins_needed(len(base), len(new))
    found = {}
    for ratio in RATIOS:
        shift = math.log(ratio)
        told = 0
        for _ in range(_TRIALS):
            before = [random.gauss(0, spread) for _ in base]
            after = [random.gauss(shift, spread) for _ in new]
            told += sum(a > b for a in after for b in before) >= needed
        found[f"{ratio:g}"] = told / _TRIALS
    return found


def _wins_needed(base_count: int, new_count: int) -> int:
    """Return from how many won pairs on a comparison says slower; one more than there are when it never can."""
    total = math.comb(base_count + new_count, new_count)
    beyond = 0
    orders = _orders(base_count, new_count)
    for wins in range(len(orders) - 1, -1, -1):
        beyond += orders[wins]
        if beyond / total >= ALPHA:
            return wins + 1
    return 0


@cache
def _orders(base_count: int, new_count: int) -> tuple[int, ...]:
    """Return, for each number of won pairs, in how many orders of all values it occurs.

    The generating function is the Gaussian binomial coefficient: the product of (1 - q^(base_count+i)) / (1 - q^i)
    for i from 1 to new_count, done by integer polynomial steps.
    """
    size = base_count * new_count + 1
    counts = [1] + [0] * (size - 1)
    for i in range(1, new_count + 1):
        for degree in range(size - 1, base_count + i - 1, -1):
            counts[degree] -= counts[degree - base_count - i]
        for degree in range(i, size):
            counts[degree] += counts[degree - i]
    return tuple(counts)
