"""What a user may write for a network fault, and what is told about a mistake."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from chaos.faults.base import Fault
from chaos.faults.network import Disconnect, Latency, Partition, Refuse
from chaos.faults.network.kinds import TOXICS, make_toxic

GOOD: tuple[Fault, ...] = (
    Latency("redis", "80ms"),
    Latency("redis", 0.08, jitter="80ms", side="reply"),
    Partition("redis"),
    Partition("redis", side="request", mode="stall"),
    Disconnect("redis"),
    Disconnect("redis", how="fin"),
    Refuse("redis"),
    Refuse("redis", cut=False),
)

BAD: tuple[tuple[Fault, str], ...] = (
    (Latency("redis", "80ms", jitter="81ms"), "jitter-exceeds-latency"),
    (Latency("redis", "0ms"), "out-of-range"),
    (Latency("redis", "2m"), "out-of-range"),
    (Latency("redis", "soon"), "not-a-time"),
    (Latency("redis", "80ms", jitter=-1), "not-a-time"),
    (Latency("redis", "80ms", side="upstream"), "not-a-choice"),
    (Partition("redis", side="left"), "not-a-choice"),
    (Partition("redis", mode="drop"), "not-a-choice"),
    (Disconnect("redis", how="kindly"), "not-a-choice"),
    (Refuse("redis", cut="yes"), "not-a-choice"),  # type: ignore[arg-type]
    (Refuse(""), "no-store-name"),
    (Partition(None), "no-store-name"),  # type: ignore[arg-type]
)


@pytest.mark.parametrize("fault", GOOD, ids=repr)
def test_good_fault_has_no_problems(fault: Fault) -> None:
    """Every documented value is accepted."""
    assert list(fault.problems()) == []


@pytest.mark.parametrize(("fault", "slug"), BAD, ids=lambda value: str(value))
def test_bad_value_is_told_with_its_place(fault: Fault, slug: str) -> None:
    """A mistake gives one problem, at the line in this file where the fault was written."""
    (problem,) = fault.problems()
    assert problem.slug == slug
    assert Path(problem.file) == Path(__file__)
    assert type(fault).__name__ in Path(__file__).read_text().splitlines()[problem.line - 1]


def test_all_mistakes_are_told_at_once() -> None:
    """Problems do not hide each other."""
    slugs = {problem.slug for problem in Latency("", "soon", side="left").problems()}
    assert slugs == {"no-store-name", "not-a-time", "not-a-choice"}


@pytest.mark.parametrize("fault", GOOD, ids=repr)
def test_arguments_are_plain_json_and_make_the_toxic(fault: Fault) -> None:
    """The declared parameters survive JSON, and the proxy can make the toxic of that kind from them."""
    arguments = json.loads(json.dumps(fault.arguments()))
    assert arguments == fault.arguments()
    assert arguments.pop("store") == "redis"
    toxic = make_toxic(fault.kind, arguments)
    assert type(toxic) is TOXICS[fault.kind]
    assert toxic.lasting == fault.lasting


def test_each_kind_tells_how_it_bites() -> None:
    """A fault that did nothing has not landed; one counter of its list is enough."""
    for fault in GOOD:
        assert not fault.landed({})
        assert not fault.landed(dict.fromkeys(fault.bites, 0))
        for counter in fault.bites:
            assert fault.landed({counter: 1})


def test_only_disconnect_is_a_point_in_time() -> None:
    """The other kinds hold until healed, and none stops the other stores' work."""
    assert {fault.kind for fault in GOOD if not fault.lasting} == {"network.disconnect"}
    assert not any(fault.stops_work for fault in GOOD)


def test_latency_seed_comes_from_the_stream_it_is_given() -> None:
    """The same stream gives the proxy the same seed, another stream another one."""
    fault = Latency("redis", "80ms", jitter="20ms")
    assert fault.toxic_arguments(Random(1)) == fault.toxic_arguments(Random(1))
    assert fault.toxic_arguments(Random(1)) != fault.toxic_arguments(Random(2))
