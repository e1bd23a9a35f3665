"""The delays that the latency toxic draws."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chaos._seeds import stream
from chaos.faults.network.connection import Connection
from chaos.faults.network.latency import LatencyToxic, _LatencyStage

TIMES = st.floats(0, 60, allow_nan=False)


@given(delay_s=TIMES, jitter_s=TIMES, seed=st.integers(0, 2**53))
def test_delay_lies_within_jitter_and_never_below_zero(delay_s: float, jitter_s: float, seed: int) -> None:
    """Every draw is within [delay - jitter, delay + jitter] and at least 0."""
    toxic = LatencyToxic(delay_s=delay_s, jitter_s=jitter_s, seed=seed)
    draws = [toxic.draw_s(stream(seed, ordinal, "request")) for ordinal in range(20)]
    assert all(max(0, delay_s - jitter_s) <= draw <= delay_s + jitter_s for draw in draws)


def test_draws_repeat_with_the_seed_and_differ_per_stream() -> None:
    """One stream gives one sequence; streams of other connections and sides give others."""
    toxic = LatencyToxic(delay_s=0.08, jitter_s=0.02, seed=7)

    def draws(seed: int, ordinal: int, side: str) -> tuple[float, ...]:
        random = stream(seed, ordinal, side)
        return tuple(toxic.draw_s(random) for _ in range(10))

    streams = [(7, 0, "request"), (7, 0, "reply"), (7, 1, "request"), (8, 0, "request")]
    assert draws(*streams[0]) == draws(*streams[0])
    assert len({draws(*path) for path in streams}) == len(streams)


async def test_each_direction_of_each_connection_has_its_own_stream() -> None:
    """A new connection never changes the delays of another; the same ordinal and side repeat theirs."""

    def first_draw(ordinal: int, side: str) -> float:
        connection = Connection(ordinal, lambda _: None)
        toxic = LatencyToxic(delay_s=0.08, jitter_s=0.02, seed=7)
        stage = toxic.stage(connection, connection.request if side == "request" else connection.reply)
        assert isinstance(stage, _LatencyStage)
        return stage._rng.random()

    places = [(0, "request"), (0, "reply"), (1, "request"), (1, "reply")]
    assert len({first_draw(*place) for place in places}) == len(places)
    assert first_draw(1, "reply") == first_draw(1, "reply")


def test_without_jitter_the_delay_is_exact() -> None:
    """No jitter, no draw: the delay is the number given."""
    assert LatencyToxic(delay_s=0.25).draw_s(stream(0)) == 0.25
