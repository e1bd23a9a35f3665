"""Frames are found whatever the cuts, their bytes are kept, and hiredis agrees on where they end."""

from __future__ import annotations

import itertools

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.faults.network.resp.framer import LINE_BYTES_MAX, Frame, Framer

LINE = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=30).map(str.encode)
BULK = st.binary(max_size=60)


def bulk(data: bytes, kind: bytes = b"$") -> bytes:
    """Return a bulk of the protocol."""
    return b"%s%d\r\n%s\r\n" % (kind, len(data), data)


def aggregate(kind: bytes, items: list[bytes], each: int = 1) -> bytes:
    """Return an array, set, push or map of encoded items."""
    return b"%s%d\r\n%s" % (kind, len(items) // each, b"".join(items))


SCALAR = st.one_of(
    st.builds(lambda kind, text: kind + text + b"\r\n", st.sampled_from([b"+", b"-"]), LINE),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b":%d\r\n" % number),
    st.sampled_from(
        [b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n", b",inf\r\n", b"(3492890328409238509324850943850\r\n"]
    ),
    st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"%0\r\n", b"~0\r\n"]),
    BULK.map(bulk),
    BULK.map(lambda data: bulk(b"txt:" + data, b"=")),
)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(lambda items: aggregate(b"*", items)),
        st.lists(inner, max_size=5).map(lambda items: aggregate(b"~", items)),
        st.lists(st.tuples(BULK.map(bulk), inner), max_size=3).map(
            lambda pairs: aggregate(b"%", [part for pair in pairs for part in pair], each=2)
        ),
    ),
    max_leaves=12,
)
PUSH = st.lists(VALUE, min_size=1, max_size=4).map(lambda items: aggregate(b">", items))
REPLIES = st.lists(st.one_of(VALUE, PUSH), min_size=1, max_size=8)
INLINE = st.sampled_from([b"PING\r\n", b"SET key value\r\n", b"GET key\n", b"\r\n"])
REQUESTS = st.lists(
    st.one_of(st.lists(BULK, max_size=5).map(lambda words: aggregate(b"*", [bulk(word) for word in words])), INLINE),
    min_size=1,
    max_size=8,
)


def fed(framer: Framer, stream: bytes, cuts: list[int]) -> list[Frame]:
    """Feed a stream cut at these places and return the frames."""
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    frames: list[Frame] = []
    for start, end in itertools.pairwise(places):
        frames += framer.feed(stream[start:end])
    return frames


@given(REPLIES, st.lists(st.integers(0, 2000), max_size=20))
def test_any_cut_of_replies_gives_the_same_frames(replies: list[bytes], cuts: list[int]) -> None:
    """Each reply comes out whole, with its own bytes, and nothing is left over."""
    framer = Framer(requests=False)
    assert [frame.raw for frame in fed(framer, b"".join(replies), cuts)] == replies
    assert framer.between_frames


@given(REQUESTS, st.lists(st.integers(0, 2000), max_size=20))
def test_any_cut_of_requests_gives_the_same_frames(requests: list[bytes], cuts: list[int]) -> None:
    """Arrays and inline commands come out whole, with their own bytes, and nothing is left over."""
    framer = Framer(requests=True)
    assert [frame.raw for frame in fed(framer, b"".join(requests), cuts)] == requests
    assert framer.between_frames


@given(REPLIES)
def test_hiredis_ends_frames_where_we_do(replies: list[bytes]) -> None:
    """The other reader finds exactly one value in each frame, and none in a frame without its last byte."""
    for frame in Framer(requests=False).feed(b"".join(replies)):
        reader = hiredis.Reader(notEnoughData=...)
        reader.feed(frame.raw[:-1])
        assert reader.gets() is ...
        reader.feed(frame.raw[-1:])
        assert reader.gets() is not ...
        assert not reader.has_data()


@given(st.lists(BULK, min_size=1, max_size=6))
def test_hiredis_packs_requests_that_we_frame(words: list[bytes]) -> None:
    """What hiredis writes for a command is one frame."""
    packed = hiredis.pack_command(tuple(words))
    assert [frame.raw for frame in Framer(requests=True).feed(packed)] == [packed]


@given(REPLIES, st.lists(st.integers(0, 2000), max_size=20), st.integers(1, 40))
def test_parts_of_large_frames_lose_no_byte(replies: list[bytes], cuts: list[int], limit: int) -> None:
    """Given out in parts, a stream is the same stream, and the frames have their whole size."""
    framer = Framer(requests=False)
    stream = b"".join(replies)
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    passed, sizes = b"", []
    for start, end in itertools.pairwise(places):
        for frame in framer.feed(stream[start:end]):
            passed += frame.raw
            sizes.append(frame.size)
        if framer.pending_bytes > limit:
            passed += framer.part()
    assert passed == stream
    assert sizes == [len(reply) for reply in replies]


def test_an_attribute_belongs_to_the_reply_behind_it() -> None:
    """A reply with an attribute is one frame, not two."""
    reply = b"|1\r\n+ttl\r\n:3600\r\n*2\r\n:1\r\n:2\r\n"
    assert [frame.raw for frame in Framer(requests=False).feed(reply + b"+OK\r\n")] == [reply, b"+OK\r\n"]


@pytest.mark.parametrize(
    ("stream", "requests", "why"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n", False, "where a frame"),
        (b"\x16\x03\x01\x02\x00\x01\r\n", True, "nobody would type"),
        (b"*x\r\n", False, "where a frame"),
        (b"*1\r\n+PING\r\n", True, "where a frame"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", True, "flat array"),
        (b"*1\r\n$-1\r\n", True, "no bulk"),
        (b"$3\r\nabcde", False, "does not end where"),
        (b"+OK\n", False, "CR LF"),
        (b"$?\r\n", False, "where a frame"),
        (b"$99999999999\r\n", False, "a bulk of"),
        (b"*1\r\n" * 70, False, "depth"),
        (b"x" * (LINE_BYTES_MAX + 1), True, "a line of more"),
    ],
)
def test_nonsense_is_told_and_kept(stream: bytes, requests: bool, why: str) -> None:
    """A stream that is no RESP gives its reason, and gives every byte back."""
    framer = Framer(requests=requests)
    good = b"*1\r\n$4\r\nPING\r\n"
    assert [frame.raw for frame in framer.feed(good + stream)] == [good]
    assert framer.reason is not None
    assert why in framer.reason
    assert not framer.between_frames
    assert framer.rest() == stream
    assert [frame.raw for frame in framer.feed(good)] == [good]


@pytest.mark.parametrize("requests", [True, False])
def test_a_reason_tells_no_value(requests: bool) -> None:
    """It goes into the journal, so of a line that should not be there it says the first byte and no more."""
    framer = Framer(requests=requests)
    assert framer.feed(b"*2\r\n$secret of somebody\r\n") == []
    assert framer.reason is not None
    assert "ecret" not in framer.reason
