from __future__ import annotations

from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from chaos.metrics.baseline import KEPT, Baselines, fingerprint
from chaos.metrics.regression import ALPHA, compare, p_value, ratio_interval


def brute_p(base: list[float], new: list[float]) -> float:
    """Count all ways to choose which values are new, and those that win at least as often."""
    values = base + new
    wins = sum(n > b for n in new for b in base)
    ranks = range(len(values))
    total = at_least = 0
    for chosen in combinations(ranks, len(new)):
        others = [rank for rank in ranks if rank not in chosen]
        total += 1
        at_least += sum(a > b for a in chosen for b in others) >= wins
    return at_least / total


@pytest.mark.parametrize(("base_count", "new_count"), [(1, 1), (3, 2), (4, 4), (5, 5), (2, 6), (6, 4)])
def test_p_is_that_of_all_orders_counted(base_count: int, new_count: int) -> None:
    """The recurrence agrees with counting each order one by one."""
    random = Random(base_count * 10 + new_count)
    for _ in range(5):
        base = [random.random() for _ in range(base_count)]
        new = [random.random() + 0.2 for _ in range(new_count)]
        assert p_value(base, new) == pytest.approx(brute_p(base, new))


def test_a_clear_slowdown_is_told_and_its_size(recwarn: pytest.WarningsRecorder) -> None:
    """Twice as slow with little noise: told, and the interval holds 2."""
    base, new = [1.0, 1.02, 0.99, 1.01, 1.03], [2.0, 2.1, 1.98, 2.05, 2.02]
    found = compare(base, new)
    assert found.verdict == "slower"
    assert found.ratio_low is not None
    assert found.ratio_high is not None
    assert found.ratio_low <= 2.0 <= found.ratio_high
    assert found.p == pytest.approx(1 / 252)
    assert found.power["2"] == 1.0


def test_noise_is_not_told_and_the_power_says_what_would_have_been() -> None:
    """With much noise nothing is seen, and it is said how seldom a small slowdown would be."""
    base, new = [1.0, 3.0, 0.5, 2.0, 1.5], [1.2, 2.5, 0.6, 1.8, 1.4]
    found = compare(base, new)
    assert found.verdict == "no difference seen"
    assert found.power["1.2"] < 0.2
    assert "would be told (x1.2: " in found.sentence("recovery")


def test_alarms_are_rare_when_nothing_changed() -> None:
    """Of 1,000 comparisons of equal noise about one in a hundred says slower."""
    random = Random(3)
    alarms = sum(
        p_value([random.random() for _ in range(8)], [random.random() for _ in range(8)]) < ALPHA for _ in range(1000)
    )
    assert alarms <= 20


def test_the_interval_holds_the_truth() -> None:
    """Of 200 pairs with a true ratio of 1.3 nearly all intervals hold it."""
    random = Random(4)
    held = 0
    for _ in range(200):
        base = [random.lognormvariate(0, 0.2) for _ in range(8)]
        new = [1.3 * random.lognormvariate(0, 0.2) for _ in range(8)]
        low, estimate, high = ratio_interval(base, new)
        assert low <= estimate <= high
        held += low <= 1.3 <= high
    assert held >= 190


def test_limits_come_first_and_few_repeats_say_nothing() -> None:
    """One value above the limit is enough; four repeats are not enough for anything else."""
    assert compare([1.0] * 5, [1.0, 1.0, 1.0, 1.0, 10.5], limit=10).verdict == "limit"
    assert compare([1.0] * 5, [9.0] * 4, limit=10).verdict == "too few"
    with pytest.raises(ValueError, match="above 0"):
        compare([0.0], [1.0])


def test_baselines_are_kept_by_machine(tmp_path: Path) -> None:
    """Values are added, the oldest forgotten, and another machine has none of them."""
    mine = Baselines(tmp_path)
    assert mine.compare("recovery_s", [1.0] * 5) is None
    mine.keep({"recovery_s": [float(n) for n in range(1, KEPT + 6)]})
    found = Baselines(tmp_path).compare("recovery_s", [100.0] * 5, limit=1000)
    assert found is not None
    assert (found.verdict, found.base_median) == ("slower", 15.5)
    assert Baselines(tmp_path, machine="another").compare("recovery_s", [1.0]) is None
    assert (tmp_path / f"{fingerprint()}.json").exists()
