"""The operation log: records survive a round trip, in the order of the clock, up to the one that was torn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.errors import PlanError
from chaos.faults.disk.oplog import Kind, Operation, decode, encode

OPERATIONS = st.builds(
    Operation,
    kind=st.sampled_from(Kind),
    clock=st.integers(0, 2**63),
    time_ns=st.integers(0, 2**63),
    pid=st.integers(1, 2**22),
    flags=st.integers(0, 2**32 - 1),
    handle=st.integers(0, 2**63),
    name=st.text(max_size=20),
    other=st.text(max_size=20),
    offset=st.none() | st.integers(0, 2**62),
    size=st.integers(0, 2**63),
    result=st.integers(-4095, 2**62),
    payload=st.binary(max_size=64),
)


@given(st.lists(OPERATIONS, max_size=6, unique_by=lambda operation: operation.clock))
def test_records_come_back_in_the_order_of_the_clock(operations: list[Operation]) -> None:
    """Processes append in the order in which they return; the clock says what came first."""
    log = b"".join(map(encode, operations))
    assert decode(log) == sorted(operations, key=lambda operation: operation.clock)


@given(OPERATIONS, st.data())
def test_a_torn_last_record_is_left_out(operation: Operation, data: st.DataObject) -> None:
    """It belongs to a call that never returned."""
    whole = encode(Operation(Kind.SYNC, clock=1))
    torn = encode(operation)[: data.draw(st.integers(0, len(encode(operation)) - 1))]
    assert decode(whole + torn) == [Operation(Kind.SYNC, clock=1)]


def test_anything_else_is_told_with_its_place() -> None:
    """A log that lies about its records is no log."""
    whole = encode(Operation(Kind.SYNC, clock=1))
    with pytest.raises(PlanError, match=f"byte {len(whole)};"):
        decode(whole + b"x" * 200)
