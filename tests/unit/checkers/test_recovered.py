from __future__ import annotations

from typing import Any

from chaos.checkers import Context, Recovered
from chaos.checkers.model import PlannedFault
from chaos.history.sketch import Sketch

CUT = "network.partition"
KILL = "process.kill"
STORES = ("sqlite", "redis", "graph")


def judged(sketch: Sketch, *faults: PlannedFault) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """Return the verdict on a sketch, the lines of its faults, and the maxima."""
    verdict = Recovered().judge(sketch.history(), Context(stores=STORES, faults=faults))
    return verdict.valid, verdict.details["faults"], verdict.details["maxima"]


def test_the_three_times_are_measured_apart() -> None:
    """Detect counts from the beginning of the fault; repair and first commit from its end."""
    sketch = Sketch().commit(0, "t0", at=1.0).begin("f0", CUT, at=2.0)
    sketch.invoke(0, "t1", at=2.1).fail(0, "t1", at=2.25).end("f0", CUT, at=4.0)
    sketch.event("probe", at=4.1, ok=False).event("probe", at=4.2, ok=True)
    sketch.invoke(0, "t2", at=4.4).ok(0, "t2", at=4.5).event("load_stopped", at=5.0)
    valid, (line,), maxima = judged(sketch, PlannedFault("f0", CUT))
    assert valid == "valid"
    assert line == {
        "id": "f0",
        "kind": CUT,
        "began_at_s": 2.0,
        "clock_from_s": 4.0,
        "detect_s": 0.25,
        "repair_s": 0.2,
        "first_commit_s": 0.5,
        "budget_s": 10.0,
    }
    assert maxima == {"detect_s": 0.25, "repair_s": 0.2, "first_commit_s": 0.5}


def test_a_fault_that_nobody_noticed_has_no_detection() -> None:
    """None is said where nothing was seen, not zero."""
    sketch = Sketch().commit(0, "t0", at=1.0).begin("f0", CUT, at=2.0).end("f0", CUT, at=3.0)
    valid, (line,), maxima = judged(sketch.commit(0, "t1", at=3.1), PlannedFault("f0", CUT))
    assert (valid, line["detect_s"], line["repair_s"], maxima["detect_s"]) == ("valid", None, None, None)


def test_a_store_left_behind_is_a_sign() -> None:
    """An acknowledgement with a store behind shows that the fault was felt."""
    sketch = Sketch().begin("f0", CUT, at=2.0).invoke(0, "t0", at=2.1).ok(0, "t0", applied=False, at=2.2)
    sketch.end("f0", CUT, at=3.0).commit(0, "t1", at=3.1)
    assert judged(sketch, PlannedFault("f0", CUT))[1][0]["detect_s"] == 0.2


def test_a_sign_after_the_next_fault_began_belongs_to_that_one() -> None:
    """The first fault is not charged with what the second one did."""
    sketch = Sketch().begin("f0", CUT, at=2.0).end("f0", CUT, at=3.0).commit(0, "t0", at=3.1)
    sketch.begin("f1", CUT, at=5.0).invoke(0, "t1", at=5.1).fail(0, "t1", at=5.2).end("f1", CUT, at=6.0)
    _, lines, _ = judged(sketch.commit(0, "t2", at=6.1), PlannedFault("f0", CUT), PlannedFault("f1", CUT))
    assert [line["detect_s"] for line in lines] == [None, 0.2]


def test_the_peaceful_restart_after_the_load_is_no_sign() -> None:
    """The worker is closed for the last reading; that is not the fault showing."""
    sketch = Sketch().begin("f0", CUT, at=2.0).end("f0", CUT, at=3.0).commit(0, "t0", at=3.1)
    sketch.event("load_stopped", at=4.0).event("worker_exited", at=5.0, status=0)
    assert judged(sketch, PlannedFault("f0", CUT))[1][0]["detect_s"] is None


def test_the_clock_moves_through_a_chain_of_overlapping_faults() -> None:
    """Each fault that still held moves the clock on, until none does."""
    faults = [PlannedFault(f"f{number}", CUT) for number in range(3)]
    sketch = Sketch().begin("f0", CUT, at=1.0).begin("f1", CUT, at=2.0).end("f0", CUT, at=3.0)
    sketch.begin("f2", CUT, at=4.0).end("f1", CUT, at=5.0).end("f2", CUT, at=20.0).commit(0, "t0", at=20.1)
    valid, lines, _ = judged(sketch, *faults)
    assert valid == "valid"
    assert [line["clock_from_s"] for line in lines] == [20.0, 20.0, 20.0]


def test_a_fault_that_began_later_does_not_move_the_clock() -> None:
    """A gap between two faults is time to recover in."""
    sketch = Sketch().begin("f0", CUT, at=1.0).end("f0", CUT, at=2.0).begin("f1", CUT, at=3.0)
    _, lines, _ = judged(sketch.end("f1", CUT, at=4.0).commit(0, "t0", at=4.1))
    assert [line["clock_from_s"] for line in lines] == [2.0, 4.0]


def test_a_kill_counts_from_the_blow() -> None:
    """A fault that does not last starts its clock when it strikes, whenever its evidence came in."""
    sketch = Sketch().commit(0, "t0", at=1.0).begin("f0", KILL, at=2.0, lasting=False)
    sketch.event("worker_exited", at=2.01, status=-9).commit(0, "t1", at=2.6).end("f0", KILL, at=9.0)
    _, (line,), _ = judged(sketch, PlannedFault("f0", KILL, lasting=False))
    assert line["clock_from_s"] == 2.0
    assert line["detect_s"] == 0.01
    assert line["first_commit_s"] == 0.603


def test_a_transaction_that_slipped_through_is_not_recovery() -> None:
    """Work done between the note of a kill and its first sign moves the clock to that sign."""
    sketch = Sketch().begin("f0", KILL, at=2.0, lasting=False).commit(0, "t0", at=2.001)
    sketch.event("worker_exited", at=2.01, status=-9).commit(0, "t1", at=2.51)
    _, (line,), _ = judged(sketch, PlannedFault("f0", KILL, lasting=False))
    assert (line["clock_from_s"], line["first_commit_s"]) == (2.01, 0.503)


def test_a_sign_long_after_a_kill_is_taken_for_something_else() -> None:
    """A failure later than the budget does not undo a recovery that was seen."""
    sketch = Sketch().begin("f0", KILL, at=2.0, lasting=False).commit(0, "t0", at=2.1)
    sketch.invoke(0, "t1", at=13.0).fail(0, "t1").event("load_stopped", at=30.0)
    valid, (line,), _ = judged(sketch, PlannedFault("f0", KILL, lasting=False))
    assert (valid, line["clock_from_s"]) == ("valid", 2.0)


def test_the_first_good_transaction_is_the_first_to_be_acknowledged() -> None:
    """A slow transaction sent first does not hide a quick one sent after it."""
    sketch = Sketch().begin("f0", CUT, at=1.0).end("f0", CUT, at=2.0).invoke(0, "slow", at=2.1)
    sketch.invoke(1, "quick", at=2.2).ok(1, "quick", at=2.3).ok(0, "slow", at=9.0)
    assert judged(sketch, PlannedFault("f0", CUT))[1][0]["first_commit_s"] == 0.3


def test_later_transactions_do_not_make_recovery_look_slower() -> None:
    """Of many good transactions the first one counts."""
    sketch = Sketch().begin("f0", CUT, at=1.0).end("f0", CUT, at=2.0)
    for number in range(3):
        sketch.invoke(0, f"t{number}", at=2.1 + number).ok(0, f"t{number}", at=2.2 + number)
    assert judged(sketch, PlannedFault("f0", CUT))[1][0]["first_commit_s"] == 0.2


def test_signs_end_with_the_next_of_several_faults() -> None:
    """With two faults still to come, the nearer one bounds what is charged to the first."""
    sketch = Sketch()
    for number, start in enumerate((1.0, 3.0, 9.0)):
        sketch.begin(f"f{number}", CUT, at=start).end(f"f{number}", CUT, at=start + 1)
        if number == 1:
            sketch.invoke(0, "t0", at=4.5).fail(0, "t0", at=4.6)
    _, lines, _ = judged(sketch.commit(0, "t1", at=11.0))
    assert [line["detect_s"] for line in lines] == [None, 1.6, None]


AT_CALL = "disk.kill"
MILD = "network.latency"


def armed(*, struck: float | None) -> Sketch:
    """Return a rule armed from 1 s to 20 s that kills the worker at 2 s, and a system that is back 12 s later."""
    sketch = Sketch().begin("f0", AT_CALL, at=1.0, bounded=True).commit(0, "t0", at=1.5)
    sketch.event("worker_exited", at=2.01, status=-9).commit(0, "t1", at=14.0)
    return sketch.end("f0", AT_CALL, at=20.0, struck=struck).commit(0, "t2", at=20.1)


def test_a_rule_that_strikes_once_counts_from_its_blow() -> None:
    """However long it stays armed: recovery is measured from the moment that its evidence tells."""
    valid, (line,), _ = judged(armed(struck=2.0), PlannedFault("f0", AT_CALL))
    assert (valid, line["clock_from_s"], line["detect_s"]) == ("invalid", 2.0, 0.01)
    assert line["first_commit_s"] == 12.003


def test_a_rule_that_does_not_tell_when_it_struck_counts_from_its_first_sign() -> None:
    """The exit of the worker stands in for the evidence."""
    valid, (line,), _ = judged(armed(struck=None), PlannedFault("f0", AT_CALL))
    assert (valid, line["clock_from_s"]) == ("invalid", 2.01)


def test_a_rule_that_never_struck_counts_from_its_heal() -> None:
    """There is no blow to recover from; that it did not land is told by another check."""
    sketch = Sketch().begin("f0", AT_CALL, at=1.0, bounded=True).commit(0, "t0", at=1.5)
    sketch.end("f0", AT_CALL, at=20.0, landed=False).commit(0, "t1", at=20.1)
    assert judged(sketch, PlannedFault("f0", AT_CALL))[1][0]["clock_from_s"] == 20.0


def killed_under(cover: Sketch, *, good: bool, end: float = 30.0) -> Sketch:
    """Return a kill at 3 s under a fault that began at 1 s; `good`: whether work went on under it before."""
    if good:
        cover.commit(0, "t0", at=1.5)
    cover.begin("f1", KILL, at=3.0, lasting=False).event("worker_exited", at=3.01, status=-9).end("f1", KILL, at=3.02)
    return cover.end("f0", MILD, at=end).commit(0, "t1", at=end + 0.1).event("load_stopped", at=end + 1)


def test_a_mild_fault_does_not_put_off_recovery_from_another() -> None:
    """Work went on under a latency, so a system that does not come back from a kill under it is late."""
    valid, lines, _ = judged(killed_under(Sketch().begin("f0", MILD, at=1.0), good=True))
    assert (valid, [line["clock_from_s"] for line in lines]) == ("invalid", [30.0, 3.0])


def test_a_fault_under_which_nothing_got_through_puts_it_off() -> None:
    """Whatever its kind: under a latency longer than every deadline nobody can be seen to recover."""
    valid, lines, _ = judged(killed_under(Sketch().begin("f0", MILD, at=1.0), good=False))
    assert (valid, [line["clock_from_s"] for line in lines]) == ("valid", [30.0, 30.0])


def test_a_fault_that_severs_a_store_puts_it_off_though_some_work_slipped_through() -> None:
    """A partition is noted a moment before it holds; what still gets through then is no sign that work goes on."""
    valid, lines, _ = judged(killed_under(Sketch().begin("f0", MILD, at=1.0, severs=True), good=True))
    assert (valid, [line["clock_from_s"] for line in lines]) == ("valid", [30.0, 30.0])


def test_a_rule_that_has_struck_puts_nothing_off() -> None:
    """It is armed, and over."""
    sketch = Sketch().begin("f0", AT_CALL, at=1.0, bounded=True).event("worker_exited", at=1.1, status=-9)
    sketch.begin("f1", KILL, at=3.0, lasting=False).end("f1", KILL, at=3.01)
    sketch.end("f0", AT_CALL, at=20.0, struck=1.1).commit(0, "t0", at=20.1)
    assert [line["clock_from_s"] for line in judged(sketch)[1]] == [1.1, 3.0]
