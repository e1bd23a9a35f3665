from __future__ import annotations

from chaos.history.sketch import Sketch
from chaos.report.rebuilt import rebuilt


def _lines(*steps: tuple[str, float]) -> list[str]:
    sketch = Sketch()
    for name, moment_s in steps:
        sketch.step(name, None, at=moment_s)
    return list(rebuilt(sketch.history()))


def test_each_store_is_told_with_its_longest_time() -> None:
    """A store that was made again is named, with how often and how long; one that was not is not."""
    steps = (
        ("graph.rebuilding", 1.0),
        ("redis.rebuilding", 1.1),
        ("redis.rebuilt", 1.2),
        ("graph.rebuilt", 1.5),
        ("graph.rebuilding", 3.0),
        ("graph.rebuilt", 3.1),
    )
    assert _lines(*steps) == [
        "  graph was made again from the commit log 2 times, in 0.500 s at most",
        "  redis was made again from the commit log once, in 0.100 s at most",
    ]
    assert _lines(("graph.applied", 1.0)) == []


def test_a_rebuilding_without_an_end_is_told() -> None:
    """Whoever died over it, or goes on for ever, is not counted as done."""
    assert _lines(("graph.rebuilding", 1.0)) == [
        "  graph was made again from the commit log never to its end (begun 1 times more)"
    ]
