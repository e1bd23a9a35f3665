"""The seed tree, and how exit codes of several runs merge."""

from __future__ import annotations

import pytest

from chaos._seeds import stream
from chaos.exit_codes import ExitCode, merge


def test_streams_repeat() -> None:
    """The same seed and name give the same numbers, on every machine."""
    assert stream(7, "client", 3).random() == stream(7, "client", 3).random()
    assert [stream(0, "fault", "f0").randrange(1000) for _ in range(2)] == [
        stream(0, "fault", "f0").randrange(1000)
    ] * 2


def test_streams_are_independent() -> None:
    """Other names and other seeds give other numbers."""
    draws = {stream(seed, *names).random() for seed in (1, 2) for names in (("a",), ("b",), ("a", "b"), ("a", 0))}
    assert len(draws) == 8


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 5),
        ([0], 0),
        ([0, 3], 3),
        ([3, 1, 70], 1),
        ([70, 6], 70),
        ([6, 3, 4], 6),
        ([4, 0], 4),
        ([0, 130], 130),
        ([1, 143], 143),
    ],
)
def test_merge(codes: list[int], expected: int) -> None:
    """The first of 1, 70, 6, 3, 4, 0 that occurred wins; an interruption wins over all; nothing is 5."""
    assert merge(codes) == expected


def test_inconclusive_is_never_green() -> None:
    """No mixture that holds an inconclusive run merges to 0."""
    assert all(merge([ExitCode.INCONCLUSIVE, code]) != 0 for code in ExitCode)
