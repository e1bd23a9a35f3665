"""Declared values: times, places, and mistakes that are told all at once."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos._declare import Declared, Duration, seconds
from chaos.errors import PlanError, Problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("40us", 40e-6),
        (" 3 s ", 3.0),
        (0, 0.0),
        (2.5, 2.5),
        ("1h", 3600.0),
    ],
)
def test_times_read(text: Duration, expected: float) -> None:
    """Seconds as numbers and text with a unit are times."""
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["", "5", "ms", "-1s", "1 day", True, -1, float("inf"), float("nan"), None, [1]])
def test_other_things_are_no_times(value: object) -> None:
    """Anything else is refused, booleans and negative numbers included."""
    with pytest.raises(ValueError, match="is not a time"):
        seconds(value)  # type: ignore[arg-type]


@given(st.integers(min_value=0, max_value=10**6))
def test_milliseconds_are_thousandths(amount: int) -> None:
    """A number of milliseconds reads as that many thousandths of a second."""
    assert seconds(f"{amount}ms") == pytest.approx(amount / 1000)


@dataclass(frozen=True)
class Sample(Declared):
    """A declared value with two fields to get wrong."""

    delay: Duration = "1s"
    side: str = "both"

    def problems(self):  # type: ignore[no-untyped-def]
        """Yield what is wrong."""
        yield from self.bad_duration("delay", high_s=5)
        yield from self.bad_choice("side", ("both", "reply"))


def test_a_value_knows_its_line() -> None:
    """The place is that of the caller, not of the package."""
    sample = Sample()
    assert sample.where.file == __file__
    assert sample.where.line == test_a_value_knows_its_line.__code__.co_firstlineno + 2
    assert sample == Sample(), "the place is not part of the value"


def test_every_mistake_is_told() -> None:
    """Two bad fields are two problems, each with value, bound, remedy and slug."""
    problems = list(Sample(delay="9s", side="left").problems())
    assert [problem.slug for problem in problems] == ["out-of-range", "not-a-choice"]
    assert "delay='9s'" in problems[0].text
    assert "between 0s and 5s" in problems[0].text


def test_plan_errors_are_sorted_and_readable() -> None:
    """Problems come in the order of the file, one a line, in the form editors understand."""
    error = PlanError([Problem("b.py", 3, "x", "fix", "s"), Problem("a.py", 9, "y", "mend", "t")])
    assert str(error) == "a.py:9: y; mend [t]\nb.py:3: x; fix [s]"
