from __future__ import annotations

import pytest

from chaos.crashpoints import sweep
from chaos.crashpoints.judge import Judgement, Outcome
from chaos.crashpoints.sweep import Call, Failed


def _failed(word: str, outcome: Outcome, detail: str = "") -> Failed:
    judgement = Judgement(outcome=outcome, detail=detail)
    return Failed(call=sweep.parse(word), fired=1, noticed=True, judgement=judgement)


def test_every_call_is_tried_once_and_for_good_and_one_behind_the_last():
    """With room for all of them no call is left out, and the one that must not be hit is among them."""
    calls = sweep.chosen({"write": 3, "sync": 1, "mkdir": 0}, 100)
    assert {(call.nth, call.how) for call in calls if call.kind == "write"} == {
        (nth, how) for nth in (1, 2, 3, 4) for how in ("once", "for-good")
    }
    assert {call.nth for call in calls if call.kind == "sync"} == {1, 2}
    assert not [call for call in calls if call.kind == "mkdir"]


def test_a_budget_takes_an_even_sample_of_each_kind():
    """A kind of many calls is sampled from its beginning to its end."""
    calls = sweep.chosen({"write": 1000, "sync": 2}, 40)
    numbers = sorted({call.nth for call in calls if call.kind == "write"})
    assert numbers[0] == 1
    assert numbers[-1] == 1001
    assert len(numbers) <= 11
    assert {call.nth for call in calls if call.kind == "sync"} == {1, 2, 3}


def test_a_call_is_read_back_from_its_word():
    """The word of a finding names the call."""
    assert sweep.parse("write:17:once") == Call("write", 17, "once")
    assert str(sweep.parse("sync:2:for-good")) == "sync:2:for-good"


@pytest.mark.parametrize("text", ["", "write", "write:0:once", "write:1:twice", "chmod:1:once"])
def test_other_words_name_no_call(text: str):
    """A word that names no call says what one looks like."""
    with pytest.raises(ValueError, match="must look like"):
        sweep.parse(text)


def test_failures_are_gathered_gravest_first():
    """The same thing shown by several calls is told once, with the earliest call that fails once only."""
    failures = [
        _failed("write:9:for-good", Outcome.LOST, "without 1"),
        _failed("write:7:once", Outcome.LOST, "without 2"),
        _failed("sync:1:once", Outcome.HANGS, "no answer"),
        _failed("read:1:once", Outcome.OK),
    ]
    found = sweep.worst(failures)
    assert [(str(one.call), count) for one, count in found] == [("sync:1:once", 1), ("write:7:once", 2)]
