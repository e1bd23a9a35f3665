from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chaos.crashpoints.blocks import BLOCK, Blocks

PLACES = st.one_of(st.integers(0, 3 * BLOCK), st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK]))
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PLACES, st.integers(0, 2 * BLOCK)),
        st.tuples(st.just("resize"), PLACES, st.just(0)),
        st.tuples(st.just("copy"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@given(CHANGES)
def test_blocks_behave_like_bytes(changes):
    """Writes and changes of length give the same bytes, parts and hash as plain bytes, and copies stay as they were."""
    blocks, plain, copies = Blocks(), bytearray(), []
    for number, (what, at, size) in enumerate(changes):
        if what == "write" and size:
            payload = bytes([number + 1]) * size
            plain.extend(bytes(max(0, at - len(plain))))
            plain[at : at + size] = payload
            blocks.write(at, payload)
        elif what == "resize":
            del plain[at:]
            plain.extend(bytes(at - len(plain)))
            blocks.resize(at)
        elif what == "copy":
            copies.append((blocks.copy(), bytes(plain)))
    for held, expected in [*copies, (blocks, bytes(plain))]:
        assert held.to_bytes() == expected
        assert held.size == len(expected)
        assert held.read(100, BLOCK) == expected[100 : 100 + BLOCK]
        assert held.digest == Blocks(expected).digest


def test_other_contents_have_other_hashes():
    """A moved block, a changed byte and a length of zeros all show."""
    one, two = b"a" * BLOCK, b"b" * BLOCK
    contents = [one + two, two + one, one + two[:-1] + b"c", one, one + b"\0", one + b"\0\0", b""]
    assert len({Blocks(content).digest for content in contents}) == len(contents)
