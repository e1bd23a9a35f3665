"""What all workloads share: their configuration, their draws, and what they say of wrong parameters."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from chaos import workload as workloads
from chaos.workload import KINDS, Appends, Links, Workload, load
from chaos.workload.shape import Keys, Shape

ROOT = Path(__file__).resolve().parents[3]
CLASSES = tuple(
    one for one in vars(workloads).values() if isinstance(one, type) and issubclass(one, Shape) and one is not Shape
)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_configuration_makes_the_same_workload_again(kind: type[Shape]) -> None:
    """Through JSON and back nothing is lost, and the same stream draws the same transactions."""
    workload: Workload = kind(clients=3, rate=12.5, seconds="1500ms", deadline="250ms", arrivals="open")  # type: ignore[assignment]  # each is one
    again = load(json.loads(json.dumps(workload.to_config())))
    assert type(again) is kind
    assert again.to_config() == workload.to_config()
    assert (again.deadline_s, again.arrivals) == (0.25, "open")
    draws = [[one.draw(Random(7), f"t{n}", 0, n) for n in range(5)] for one in (workload, again)]
    assert draws[0] == draws[1]
    assert all(isinstance(spec["mark"], str) and spec["mark"] for spec in draws[0])
    assert json.loads(json.dumps(draws[0])) == draws[0]


def test_every_workload_has_its_kind() -> None:
    """Each class can be named in a configuration."""
    assert len(CLASSES) == len(KINDS)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_mistake_is_told(kind: type[Shape]) -> None:
    """Parameters of the load are checked by all workloads alike."""
    wrong = kind(clients=0, rate=0, seconds="soon", deadline="2h", arrivals="both")  # type: ignore[arg-type]  # wrong on purpose
    told = " ".join(problem.text for problem in wrong.problems())
    assert all(f"{name}=" in told for name in ("clients", "rate", "seconds", "deadline", "arrivals"))
    assert not list(kind().problems())


def test_uneven_keys_follow_the_law() -> None:
    """With skew 1 the first of ten is chosen ten times as often as the last; with 0 all are alike."""
    rng = Random(3)
    counts = Counter(Keys(keys=10, skew=1.0).choose(rng)[0] for _ in range(20_000))
    assert 7 < counts[0] / counts[9] < 14
    even = Counter(Keys(keys=10).choose(rng)[0] for _ in range(20_000))
    assert 0.8 < even[0] / even[9] < 1.25


def test_several_keys_are_different_ones() -> None:
    """However uneven the choice, no object is chosen twice in one transaction, and no more than there are."""
    assert sorted(Keys(keys=5, skew=3.0).choose(Random(1), 9)) == [0, 1, 2, 3, 4]


def test_a_link_needs_two_things() -> None:
    """One thing alone cannot be linked."""
    assert [problem.slug for problem in Links(keys=1).problems()] == ["out-of-range"]


def test_the_page_names_every_workload_and_parameter() -> None:
    """The reference has a section for each workload, with a row for each parameter that is its own."""
    page = (ROOT / "docs" / "reference" / "workloads.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    shared = set(Appends(keys=1).__dict__) & set(Links().__dict__) & set(Shape().__dict__) - {"where"}
    for kind in CLASSES:
        own = {name for name in kind().__dict__ if name not in shared | {"where"}}
        assert own == set(re.findall(r"^\| `(\w+)` \|", sections[f"`workload.{kind.__name__}`"], flags=re.MULTILINE))
    assert shared == set(re.findall(r"^\| `(\w+)` \|", sections["Every workload"], flags=re.MULTILINE))
    assert set(sections) == {"Every workload"} | {f"`workload.{kind.__name__}`" for kind in CLASSES}
