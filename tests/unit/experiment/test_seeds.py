from __future__ import annotations

import pytest

from chaos.experiment.seeds import SEED_MAX, draw_seed, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", (0,)), ("1,2,3", (1, 2, 3)), ("1..5", (1, 2, 3, 4, 5)), ("7..7", (7,)), ("9, 1..3,2", (9, 1, 2, 3))],
)
def test_seeds_are_read(text: str, seeds: tuple[int, ...]) -> None:
    """One seed, a list, a range and a mixture are read in the order written, each seed once."""
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "-1", "3..1", "1..", "1,,2", "1.5", "1..999999999", str(SEED_MAX + 1), "٣"])
def test_bad_seeds_are_refused(text: str) -> None:
    """Anything else is refused with its value."""
    with pytest.raises(ValueError, match="seeds="):
        parse_seeds(text)


def test_drawn_seeds_differ() -> None:
    """Drawn seeds are in range and not always the same."""
    drawn = {draw_seed() for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= seed <= SEED_MAX for seed in drawn)
