"""What a user may write for a network fault, and what is told about a mistake."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from chaos.faults import (
    Bandwidth,
    Disconnect,
    DropSyn,
    Flapping,
    Latency,
    Limit,
    Loss,
    Noop,
    Partition,
    Refuse,
    ResetOnAccept,
    Slicer,
    SlowAccept,
    SlowClose,
    Timeout,
)
from chaos.faults.base import Fault
from chaos.faults.network.kinds import TOXICS, make_toxic

# What a Toxiproxy can do as well as our own proxy.
COMMON: tuple[Fault, ...] = (
    Latency("redis", "80ms"),
    Latency("redis", 0.08, jitter="80ms", side="reply", toxicity=0.5),
    Bandwidth("redis", 50_000, side="reply", toxicity=0.5),
    Slicer("redis", 64),
    Slicer("redis", 64, variation_bytes=63, delay="250us", side="request", toxicity=0.001),
    SlowClose("redis", "1s", side="request"),
    Timeout("redis", "0s"),
    Timeout("redis", "150ms", side="reply", toxicity=0.5),
    Limit("redis", 0),
    Limit("redis", 2**40, side="reply", toxicity=1),
    Noop("redis"),
    Partition("redis"),
    Partition("redis", side="request", mode="stall"),
    Partition("redis", mode="stall", held="late"),
    Partition("redis", mode="discard", held="drop"),
    Disconnect("redis"),
    Disconnect("redis", how="fin"),
    Refuse("redis"),
)

# What only our own proxy can do.
OURS: tuple[Fault, ...] = (
    Latency("redis", "80ms", jitter="10ms", distribution="normal"),
    Latency("redis", "80ms", jitter="10ms", distribution="pareto"),
    Latency("redis", "80ms", jitter="10ms", correlation=0.25),
    Latency("redis", "1.5ms"),
    Bandwidth("redis", 1500),
    Slicer("redis", 64, delay=0.0000015),
    SlowClose("redis", 1.0005),
    Timeout("redis", 0.0005),
    Loss("redis", 0.01),
    Loss("redis", 0.9, side="request", correlation=1, toxicity=0.5),
    Partition("redis", mode="stall", held="drop"),
    Disconnect("redis", how="half_close"),
    Disconnect("redis", how="stall"),
    Disconnect("redis", how="discard"),
    Refuse("redis", cut=False),
    DropSyn("redis"),
    DropSyn("redis", cut=False),
    ResetOnAccept("redis"),
    ResetOnAccept("redis", cut=False),
    SlowAccept("redis", "500ms"),
    SlowAccept("redis", 0.5, cut=False),
    Flapping("redis", up="1s", down="200ms"),
    Flapping("redis", up="1s", down="200ms", jitter="100ms", how="stall"),
)

GOOD = COMMON + OURS

BAD: tuple[tuple[Fault, str], ...] = (
    (Latency("redis", "80ms", jitter="81ms"), "jitter-exceeds-latency"),
    (Latency("redis", "0ms"), "out-of-range"),
    (Latency("redis", "2m"), "out-of-range"),
    (Latency("redis", "soon"), "not-a-time"),
    (Latency("redis", "80ms", jitter=-1), "not-a-time"),
    (Latency("redis", "80ms", side="upstream"), "not-a-choice"),
    (Latency("redis", "80ms", distribution="poisson"), "not-a-choice"),
    (Latency("redis", "80ms", correlation=1.5), "out-of-range"),
    (Latency("redis", "80ms", toxicity=0), "out-of-range"),
    (Bandwidth("redis", 0), "out-of-range"),
    (Bandwidth("redis", "fast"), "out-of-range"),  # type: ignore[arg-type]
    (Bandwidth("redis", 1000, toxicity=2), "out-of-range"),
    (Slicer("redis", 0), "out-of-range"),
    (Slicer("redis", 1.5), "out-of-range"),  # type: ignore[arg-type]
    (Slicer("redis", 10, variation_bytes=10), "variation-exceeds-average"),
    (Slicer("redis", 10, variation_bytes=-1), "out-of-range"),
    (Slicer("redis", 10, delay="1h"), "out-of-range"),
    (SlowClose("redis", 0), "out-of-range"),
    (Timeout("redis", "2h"), "out-of-range"),
    (Limit("redis", -1), "out-of-range"),
    (Limit("redis", True), "out-of-range"),
    (Loss("redis", 0), "out-of-range"),
    (Loss("redis", 1), "out-of-range"),
    (Loss("redis", 0.1, correlation=-1), "out-of-range"),
    (Noop("redis", side="left"), "not-a-choice"),
    (Partition("redis", side="left"), "not-a-choice"),
    (Partition("redis", mode="drop"), "not-a-choice"),
    (Partition("redis", mode="stall", held="never"), "not-a-choice"),
    (Partition("redis", held="late"), "nothing-held"),
    (Disconnect("redis", how="kindly"), "not-a-choice"),
    (Refuse("redis", cut="yes"), "not-a-choice"),  # type: ignore[arg-type]
    (DropSyn("redis", cut=1), "not-a-choice"),  # type: ignore[arg-type]
    (ResetOnAccept("redis", cut=None), "not-a-choice"),  # type: ignore[arg-type]
    (SlowAccept("redis", 0), "out-of-range"),
    (Flapping("redis", up=0, down="1s"), "out-of-range"),
    (Flapping("redis", up="1s", down="1s", jitter="1s"), "jitter-exceeds-cycle"),
    (Flapping("redis", up="1s", down="1s", how="rst"), "not-a-choice"),
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


def test_only_a_cut_that_closes_everything_is_a_point_in_time() -> None:
    """The other kinds and ways hold until healed, and none stops the other stores' work."""
    points = {repr(fault) for fault in GOOD if not fault.lasting}
    assert points == {repr(Disconnect("redis")), repr(Disconnect("redis", how="fin"))}
    assert not any(fault.stops_work for fault in GOOD)


def test_every_declared_kind_is_among_the_good_ones() -> None:
    """A kind that is added must be added here; the API's reset_peer is nothing that a user declares."""
    assert {fault.kind for fault in GOOD} >= {
        kind for kind in TOXICS if kind not in ("network.reset_peer", "network.on_command")
    }


@pytest.mark.parametrize("fault", GOOD, ids=repr)
def test_our_own_proxy_refuses_nothing(fault: Fault) -> None:
    """Whatever can be declared, the embedded proxy does."""
    assert fault.refused_by("embedded") is None


@pytest.mark.parametrize("provider", ["toxiproxy", "docker"])
def test_toxiproxy_refuses_what_it_cannot_do_with_a_reason(provider: str) -> None:
    """In one line; the faults it can do are not refused."""
    assert {repr(fault): fault.refused_by(provider) for fault in COMMON} == dict.fromkeys(map(repr, COMMON))
    for fault in OURS:
        reason = fault.refused_by(provider)
        assert reason, fault
        assert "Toxiproxy" in reason
        assert "\n" not in reason


def test_mistaken_fault_is_refused_by_nobody() -> None:
    """Its mistakes are told by themselves, and asking does not raise."""
    for fault, _ in BAD:
        assert fault.refused_by("toxiproxy") is None


def test_latency_seed_comes_from_the_stream_it_is_given() -> None:
    """The same stream gives the proxy the same seed, another stream another one."""
    fault = Latency("redis", "80ms", jitter="20ms")
    assert fault.toxic_arguments(Random(1)) == fault.toxic_arguments(Random(1))
    assert fault.toxic_arguments(Random(1)) != fault.toxic_arguments(Random(2))


@pytest.mark.parametrize("fault", [Latency("redis", "80ms"), Loss("redis", 0.1), Flapping("redis", up=1, down=1)])
def test_faults_that_draw_give_the_proxy_a_seed(fault: Latency | Loss | Flapping) -> None:
    """It is drawn from the fault's own stream, and makes the toxic together with the arguments."""
    arguments = fault.toxic_arguments(Random(1))
    assert arguments["seed"] == Random(1).getrandbits(53)
    assert make_toxic(fault.kind, arguments).seed == arguments["seed"]
