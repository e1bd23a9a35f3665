from __future__ import annotations

import pytest

from chaos.crashpoints.judge import Judgement, Observation, Outcome, judge
from chaos.crashpoints.promises import Promise, promises
from chaos.faults.disk.oplog import Kind, Operation

PROMISE = Promise(frozenset("1234"), frozenset("12"), frozenset("3"))


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (Observation(found=("1", "2"), counter=2), Outcome.OK),
        (Observation(found=("1", "2", "4"), counter=3), Outcome.OK),
        (Observation(found=("1",), counter=1), Outcome.LOST),
        (Observation(found=("2",)), Outcome.LOST),
        (Observation(found=("1", "2"), counter=3), Outcome.PARTIAL),
        (Observation(found=("1", "2"), partial={"4": "1 of 3 rows"}), Outcome.PARTIAL),
        (Observation(found=("1", "2", "3")), Outcome.CORRUPTED),
        (Observation(found=("1", "2", "9")), Outcome.CORRUPTED),
        (Observation(found=("1", "2"), problems=("index",)), Outcome.CORRUPTED),
        (Observation(found=("1", "2"), stuck="disk I/O error"), Outcome.CORRUPTED),
        (Observation(refused="checksum"), Outcome.REFUSES),
        (Observation(killed="SIGSEGV"), Outcome.CRASHES),
        (Observation(hung="no answer within 20 s"), Outcome.HANGS),
        (Observation(judged=Judgement(outcome=Outcome.OK)), Outcome.OK),
    ],
)
def test_an_observation_is_held_against_the_promise(seen, outcome):
    """Acknowledged means there, aborted and unasked mean not there, under way means either, never in part."""
    judgement = judge(seen, PROMISE)
    assert judgement.outcome is outcome
    assert (judgement.detail == "") is (outcome is Outcome.OK)


def test_a_gap_is_told_from_a_shorter_history():
    """Losing the tail and losing something before what is still there are different findings."""
    tail = judge(Observation(found=("1",)), PROMISE)
    gap = judge(Observation(found=("2",)), PROMISE)
    assert tail.signature != gap.signature
    assert "later ones are there (2)" in gap.detail


def test_numbers_make_no_other_finding():
    """The same damage on another page is the same finding."""
    one, two = (judge(Observation(problems=(f"page {n} is bad",)), PROMISE).signature for n in (4, 17))
    assert one == two


def test_markers_become_promises():
    """Each boundary has the promise of the markers before it; other texts and operations change nothing."""
    texts = ["begin 1", "acknowledged 1", "begin 2", "aborted 2", "something else", "phase close", "begin 2"]
    found = promises([Operation(Kind.MARKER, n, name=text) for n, text in enumerate(texts)], Promise())
    assert len(found) == len(texts) + 1
    assert found[2] == Promise(frozenset("1"), frozenset("1"))
    assert found[4].aborted == frozenset("2")
    assert found[5] == found[4]
    assert found[7] == Promise(frozenset("12"), frozenset("1"), frozenset(), "close")
