"""What toxics decide for a chunk: the same for the same seed, connection and direction, whatever else happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults.network.connection import Connection
from chaos.faults.network.kinds import API_TOXICS, make_toxic
from chaos.faults.network.paced import CHUNKS_HIGH, PacedStage
from chaos.faults.network.toxic import Toxic
from chaos.faults.network.toxics.flapping import FlappingToxic

CHUNKS = [b"x" * size for size in (10, 3000, 100, 20_000, 1)] * 4

DRAWING: dict[str, dict[str, Any]] = {
    "network.latency": {"delay_s": 0.08, "jitter_s": 0.02, "distribution": "pareto", "correlation": 0.4},
    "network.loss": {"rate": 0.3, "correlation": 0.2},
    "network.slicer": {"average_bytes": 100, "variation_bytes": 90, "delay_s": 0.01},
}


def _decisions(kind: str, seed: int, ordinal: int, side: str) -> list[tuple[int, int | None, float]]:
    """Return what a stage decides piece by piece: the chunk's number, the size, and how long it waits."""

    async def decide() -> list[tuple[int, int | None, float]]:
        connection = Connection(ordinal, lambda _: None)
        toxic = make_toxic(kind, {**DRAWING[kind], "seed": seed})
        stage = toxic.stage(connection, connection.request if side == "request" else connection.reply)
        assert isinstance(stage, PacedStage)
        loop = asyncio.get_running_loop()
        made: list[tuple[int, int | None, float]] = []
        for number, chunk in enumerate(CHUNKS):
            left = len(chunk)
            while left > 0:
                now_s = loop.time()
                departure = stage.plan(now_s, chunk, left)
                wait_s = 0.0 if kind == "network.slicer" else round(max(0.0, departure.due_s - now_s), 3)
                made.append((number, departure.size_bytes, wait_s))
                left -= departure.size_bytes or left
        return made

    return asyncio.run(decide())


@pytest.mark.parametrize("kind", DRAWING)
def test_same_seed_decides_the_same_and_every_stream_is_its_own(kind: str) -> None:
    """Connections and directions do not share a stream, so a new connection never changes another's fate."""
    places = [(7, 0, "request"), (7, 0, "reply"), (7, 1, "request"), (8, 0, "request")]
    decided = {place: _decisions(kind, *place) for place in places}
    assert _decisions(kind, *places[0]) == decided[places[0]]
    assert len({str(one) for one in decided.values()}) == len(places)


def test_latency_waits_as_long_as_it_says() -> None:
    """Every wait is at least 0, with the mean near the delay; without jitter it is the delay."""
    waits = [wait_s for _, _, wait_s in _decisions("network.latency", 1, 0, "request")]
    assert min(waits) >= 0.08 - 0.02
    assert len(set(waits)) > 5


async def test_tiny_chunks_are_bounded_by_their_number() -> None:
    """A million bytes one by one would take a hundred times their size; reading stops, and goes on when they leave."""
    connection = Connection(0, lambda _: None)
    link = connection.request
    connection.start()
    toxic = make_toxic("network.bandwidth", {"rate_bytes": 0})
    stage = toxic.stage(connection, link)
    assert stage is not None
    link.add(stage)
    for _ in range(CHUNKS_HIGH - 1):
        link.feed(b"x")
    assert not link.source.paused
    link.feed(b"x")
    assert link.source.paused
    assert link.held_bytes == CHUNKS_HIGH
    link.remove(toxic)
    assert not link.source.paused
    assert link.held_bytes == 0


def test_flapping_draws_its_times_from_the_seed() -> None:
    """The same seed gives the same cycle, within the jitter."""

    def times(seed: int) -> list[float]:
        toxic = FlappingToxic(up_s=1, down_s=2, jitter_s=0.5, seed=seed)
        return [toxic.draw_s(middle_s) for _ in range(10) for middle_s in (2.0, 1.0)]

    assert times(4) == times(4) != times(5)
    assert all(abs(drawn - middle) <= 0.5 for drawn, middle in zip(times(4), [2.0, 1.0] * 10, strict=True))


@given(seed=st.integers(0, 2**53), low=st.floats(0, 1), high=st.floats(0, 1))
def test_more_toxicity_keeps_those_it_touched_already(seed: int, low: float, high: float) -> None:
    """The draw of a connection belongs to the toxic and the connection; a change of toxicity never rolls again."""
    low, high = sorted((low, high))
    toxic = Toxic(toxicity=low, seed=seed)
    before = {ordinal for ordinal in range(50) if toxic.touches(ordinal)}
    toxic.toxicity = high
    assert before <= {ordinal for ordinal in range(50) if toxic.touches(ordinal)}


def test_toxicity_is_the_share_of_connections() -> None:
    """Of many connections it touches about its share; 0 touches none and 1 all."""
    counts = {share: sum(Toxic(toxicity=share, seed=9).touches(i) for i in range(2000)) for share in (0.0, 0.3, 1.0)}
    assert counts[0.0] == 0
    assert counts[0.3] == pytest.approx(600, rel=0.15)
    assert counts[1.0] == 2000


ATTRIBUTES: dict[str, dict[str, int]] = {
    "latency": {"latency": 100, "jitter": 20},
    "bandwidth": {"rate": 50},
    "slow_close": {"delay": 1500},
    "timeout": {"timeout": 1},
    "reset_peer": {"timeout": 0},
    "slicer": {"average_size": 100, "size_variation": 99, "delay": 250},
    "limit_data": {"bytes": 2**40},
    "noop": {},
}
"""Every type of Toxiproxy 2.12 with its attributes, in the order of its JSON."""


def test_every_type_of_the_api_is_known_with_its_attributes_in_order() -> None:
    """The eight types, and nothing else."""
    assert {name: list(toxic.api_attributes) for name, toxic in API_TOXICS.items()} == {
        name: list(attributes) for name, attributes in ATTRIBUTES.items()
    }


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_come_back_as_they_were_given(name: str) -> None:
    """Whole numbers survive our units; side, toxicity and seed are kept; unknown attributes are ignored."""
    given_attributes = {**ATTRIBUTES[name], "colour": 3}
    toxic = API_TOXICS[name].from_attributes(given_attributes, side="reply", toxicity=0.5, seed=3)
    assert list(toxic.attributes().items()) == list(ATTRIBUTES[name].items())
    assert (toxic.api_type, toxic.side, toxic.toxicity, toxic.seed) == (name, "reply", 0.5, 3)


@given(data=st.data())
@settings(max_examples=300)
def test_any_numbers_in_range_come_back(data: st.DataObject) -> None:
    """Whole milliseconds, microseconds, bytes and kilobytes survive the way to seconds and back."""
    name = data.draw(st.sampled_from(sorted(ATTRIBUTES)))
    kind = API_TOXICS[name]
    numbers = {key: data.draw(st.integers(low, high)) for key, (low, high) in kind.api_ranges.items()}
    if name == "slicer":
        numbers["size_variation"] %= numbers["average_size"]
    toxic = kind.from_attributes(numbers, side="request", toxicity=1, seed=0)
    assert toxic.attributes() == numbers
    toxic.update(numbers)
    assert toxic.attributes() == numbers


def test_missing_attributes_are_zero() -> None:
    """As with Toxiproxy, except where zero would be no toxic at all."""
    assert API_TOXICS["latency"].from_attributes({}, side="reply", toxicity=1, seed=0).attributes() == {
        "latency": 0,
        "jitter": 0,
    }
    with pytest.raises(ValueError, match="average_size must be between 1 and"):
        API_TOXICS["slicer"].from_attributes({}, side="reply", toxicity=1, seed=0)


BAD: tuple[tuple[str, dict[str, int], str], ...] = (
    ("latency", {"latency": -1}, "latency must be between 0 and 86400000, not -1"),
    ("latency", {"jitter": 2**62}, "jitter must be between 0 and"),
    ("bandwidth", {"rate": -1}, "rate must be between 0 and"),
    ("slow_close", {"delay": -5}, "delay must be between 0 and"),
    ("timeout", {"timeout": -5}, "timeout must be between 0 and"),
    ("reset_peer", {"timeout": -5}, "timeout must be between 0 and"),
    ("limit_data", {"bytes": -1}, "bytes must be between 0 and"),
    ("slicer", {"average_size": 5, "size_variation": 5}, "size_variation must be less than average_size"),
    ("slicer", {"average_size": 5, "delay": -1}, "delay must be between 0 and"),
)


@pytest.mark.parametrize(("name", "attributes", "text"), BAD, ids=str)
def test_what_crashes_toxiproxy_is_refused_in_one_line(name: str, attributes: dict[str, int], text: str) -> None:
    """Out of range is an error at creation and at an update, which then has changed nothing."""
    kind = API_TOXICS[name]
    with pytest.raises(ValueError, match=text) as raised:
        kind.from_attributes(attributes, side="reply", toxicity=1, seed=0)
    assert "\n" not in str(raised.value)
    toxic = kind.from_attributes(ATTRIBUTES[name], side="reply", toxicity=1, seed=0)
    with pytest.raises(ValueError, match=text):
        toxic.update({**ATTRIBUTES[name], **attributes}, 0.5)
    assert (toxic.attributes(), toxic.toxicity) == (ATTRIBUTES[name], 1)


@pytest.mark.parametrize("toxicity", [-0.1, 1.1, float("nan")])
def test_toxicity_is_a_share(toxicity: float) -> None:
    """7 and -3, which Toxiproxy takes, mean nothing; a refused one leaves the attributes alone."""
    kind: Callable[..., Any] = API_TOXICS["latency"].from_attributes
    with pytest.raises(ValueError, match="toxicity must be between 0 and 1"):
        kind({}, side="reply", toxicity=toxicity, seed=0)
    toxic = kind({"latency": 5}, side="reply", toxicity=1, seed=0)
    with pytest.raises(ValueError, match="toxicity must be between 0 and 1"):
        toxic.update({"latency": 7}, toxicity)
    assert toxic.attributes()["latency"] == 5


def test_update_changes_what_is_given_and_keeps_the_rest() -> None:
    """A partial update is one."""
    toxic = API_TOXICS["latency"].from_attributes({"latency": 5, "jitter": 2}, side="reply", toxicity=1, seed=0)
    toxic.update({"jitter": 4})
    toxic.update({}, 0.25)
    assert (toxic.attributes(), toxic.toxicity) == ({"latency": 5, "jitter": 4}, 0.25)
