from __future__ import annotations

from chaos.checkers import Atomic, Context, Durable
from chaos.checkers.model import WITNESS_LIMIT
from chaos.history.sketch import Sketch

CONTEXT = Context(stores=("sqlite", "redis", "graph"))


def torn_run() -> Sketch:
    """Return a run with a commit, an abort, two torn transactions and one in doubt."""
    sketch = Sketch().commit(0, "t0").invoke(0, "t1").fail(0, "t1").invoke(1, "t2", "3>7:5").ok(1, "t2", at=3.412)
    sketch.invoke(2, "t3").info(2, "t3").resolve("t3", "committed").invoke(3, "t4").info(3, "t4")
    return sketch.read_both(
        sqlite={"t0": "m-t0", "t2": "3>7:5", "t3": "m-t3"}, redis={"t0": "m-t0"}, graph={"t0": "m-t0", "t2": "3>7:5"}
    )


def test_the_table_has_a_row_for_each_transaction() -> None:
    """The details tell who was told what, which store holds what, and what that amounts to."""
    details = Atomic().judge(torn_run().history(), CONTEXT).details
    assert details["table"][2] == {
        "token": "t2",
        "process": 1,
        "acknowledged": "ok",
        "resolved": None,
        "sqlite": "3>7:5",
        "redis": None,
        "graph": "3>7:5",
        "verdict": "torn",
    }
    assert [(row["token"], row["acknowledged"], row["resolved"], row["verdict"]) for row in details["table"]] == [
        ("t0", "ok", None, "committed"),
        ("t1", "fail", None, "rolled back"),
        ("t2", "ok", None, "torn"),
        ("t3", "info", "committed", "torn"),
        ("t4", "info", None, "in doubt"),
    ]
    assert details["counts"] == {"committed": 1, "rolled back": 1, "torn": 2, "altered": 0, "in doubt": 1}
    assert details["torn"] == {"sqlite only": 1, "sqlite+graph": 1}


def test_a_witness_tells_the_promise_and_what_each_store_holds() -> None:
    """The words name the transaction, its entry and time, and go through the stores one by one."""
    verdict = Atomic().judge(torn_run().history(), CONTEXT)
    first, second = verdict.witnesses
    assert first.text == (
        "transaction t2 (entry 7) was acknowledged at 3.412 s; sqlite holds 3>7:5, redis holds nothing, "
        "graph holds 3>7:5 (read back in entry 14)"
    )
    assert (first.token, first.entries) == ("t2", (6, 7, 14))
    assert "transaction t3 (entry 9) was left in doubt at 3.414 s and resolved as committed in entry 10" in second.text
    assert verdict.summary == "2 of 5 transactions torn: 1 in sqlite only, 1 in sqlite+graph"


def test_an_unanswered_transaction_is_told_as_such() -> None:
    """A run that was cut short leaves transactions without an answer; they are in doubt, not torn."""
    history = Sketch().commit(0, "t0").invoke(0, "t1").read_both(sqlite={}, redis={}, graph={}).history()
    row = Atomic().judge(history, CONTEXT).details["table"][1]
    assert (row["acknowledged"], row["verdict"], row["sqlite"]) == ("info", "in doubt", None)


def test_a_transaction_that_came_after_every_reading_is_in_doubt() -> None:
    """What was never read cannot be called committed."""
    marks = {"t0": "m-t0"}
    history = Sketch().commit(0, "t0").read_both(sqlite=marks, redis=marks, graph=marks).commit(0, "t1").history()
    verdict = Atomic().judge(history, CONTEXT)
    assert (verdict.valid, verdict.details["table"][1]["verdict"]) == ("unknown", "in doubt")
    assert Durable().judge(history, CONTEXT).valid == "valid"


def test_only_the_named_stores_are_asked() -> None:
    """A store that the plan does not name is left out of the judgement."""
    history = Sketch().commit(0, "t0").read_both(sqlite={"t0": "m-t0"}, cache={}).history()
    assert Atomic().judge(history, Context(stores=("sqlite",))).valid == "valid"
    assert Atomic().judge(history, Context(stores=("sqlite", "cache"))).valid == "invalid"


def test_witnesses_are_bounded_and_counted() -> None:
    """A thousand torn transactions give a bounded verdict that still knows how many there were."""
    sketch = Sketch()
    for number in range(1000):
        sketch.commit(0, f"t{number}")
    sketch.read_both(sqlite={f"t{number}": f"m-t{number}" for number in range(1000)}, redis={}, graph={})
    verdict = Atomic().judge(sketch.history(), CONTEXT)
    assert len(verdict.witnesses) == WITNESS_LIMIT
    assert verdict.details["witness_count"] == 1000


def test_a_long_mark_is_cut_in_words_but_not_in_judgement() -> None:
    """Marks that differ only past the visible part are still told apart."""
    long = "x" * 100
    sketch = Sketch().invoke(0, "t0", long).ok(0, "t0")
    verdict = Atomic().judge(
        sketch.read_both(sqlite={"t0": long}, redis={"t0": f"{long}y"}, graph={"t0": long}).history(), CONTEXT
    )
    assert verdict.valid == "invalid"
    assert f"redis holds {'x' * 37}..." in verdict.witnesses[0].text
