from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from chaos.errors import PlanError
from chaos.history.assemble import PROBLEM_LIMIT, assemble
from chaos.history.model import StoreImage
from chaos.history.sketch import Sketch


def test_operations_are_put_together() -> None:
    """An operation holds its invoke, its completion, its steps, its mark and how it ended."""
    sketch = Sketch().invoke(0, "t0", "1>2:5").invoke(1, "t1").step("begin", "t0").info(1, "t1")
    sketch.ok(0, "t0", applied=False).step("recovered", "t0").invoke(2, "t2").fail(2, "t2").invoke(0, "t3")
    history = sketch.history()
    first = history.transactions["t0"]
    assert [(one.token, one.kind) for one in history.operations] == [
        ("t0", "ok"),
        ("t1", "info"),
        ("t2", "fail"),
        ("t3", "info"),
    ]
    assert (first.mark, first.process, first.applied, first.last_index) == ("1>2:5", 0, False, 4)
    assert [step.f for step in first.steps] == ["begin", "recovered"]
    assert history.transactions["t3"].completion is None


def test_faults_become_intervals() -> None:
    """A fault joins its two entries; one without an end has neither end nor evidence."""
    sketch = Sketch().begin("f0", "network.latency", at=1.0).begin("f1", "process.kill", lasting=False)
    sketch.end("f0", "network.latency", at=2.5)
    first, second = sketch.history().faults
    assert (first.id, first.kind, first.store, first.begin_ns, first.end_ns, first.landed) == (
        "f0",
        "network.latency",
        "redis",
        1_000_000_000,
        2_500_000_000,
        True,
    )
    assert first.evidence == {"bytes_held": 1}
    assert (second.end_ns, second.landed, second.lasting) == (None, None, False)


def test_a_fault_is_placed_by_its_arguments_when_nothing_else_says_where() -> None:
    """Without a store in the value, the fault's own parameter `target` names it."""
    sketch = Sketch().add("fault_begin", "process.kill", fault="f0", value={"arguments": {"target": "worker"}})
    assert sketch.history().faults[0].store == "worker"


def test_readings_resolutions_agreements_and_probes_are_found() -> None:
    """The rest of the typed view comes from its entries, in order."""
    sketch = Sketch().invoke(0, "t0").info(0, "t0").resolve("t0", "aborted").resolve("t0", "committed")
    sketch.agreement(False).agreement(True, "holding").event("probe", ok=True, stores={}, occasion="after")
    sketch.read_back("final", counters={"total": 9}, redis={"t0": ["a", "b"]})
    history = sketch.history()
    assert [word.outcome for word in history.resolutions["t0"]] == ["aborted", "committed"]
    assert history.resolved("t0") == "committed"
    assert history.resolved("t9") is None
    assert [(look.agreed, look.phase) for look in history.agreements] == [(False, "converging"), (True, "holding")]
    assert [(probe.ok, probe.occasion) for probe in history.probes] == [(True, "after")]
    reading = history.last_read_back("final")
    assert reading is not None
    assert reading.images == {"redis": StoreImage(marks={"t0": ["a", "b"]}, counters={"total": 9})}
    assert history.last_read_back("reopened") is None


def test_a_reading_that_failed_is_no_reading() -> None:
    """A read_back that ends info leaves no images behind."""
    sketch = Sketch().add("invoke", "read_back", process=9).add("info", "read_back", process=9, error="hung")
    history = sketch.history()
    assert history.read_backs == ()
    assert history.operations[0].kind == "info"


MALFORMED: dict[str, tuple[Callable[[], Sketch], str]] = {
    "two invokes": (
        lambda: Sketch().invoke(0, "t0").invoke(0, "t1"),
        r"sketch:2: process 0 invokes transact while its entry 0 is still open",
    ),
    "completion without invoke": (lambda: Sketch().ok(0, "t0"), r"sketch:1: .* without an open invoke"),
    "two completions": (
        lambda: Sketch().invoke(0, "t0").ok(0, "t0").fail(0, "t0"),
        r"sketch:3: process 0 ends transact \(fail\) without an open invoke",
    ),
    "other token": (
        lambda: Sketch().invoke(0, "t0").ok(0, "t1"),
        r"sketch:2: .* of token t1, but entry 0 began transact of token t0",
    ),
    "used after info": (
        lambda: Sketch().invoke(0, "t0").info(0, "t0").invoke(0, "t1"),
        r"sketch:3: process 0 ended info in entry 1 and must never be used again",
    ),
    "token twice": (
        lambda: Sketch().commit(0, "t0").invoke(1, "t0"),
        r"sketch:5: token='t0' was sent before, in entry 0",
    ),
    "no token": (
        lambda: Sketch().add("invoke", "transact", process=0, value={"mark": "m"}),
        r"sketch:1: a transact must have a token",
    ),
    "no mark": (
        lambda: Sketch().add("invoke", "transact", process=0, token="t0", value={}),
        r"sketch:1: the value of transact \(invoke\) does not fit: .*mark",
    ),
    "resolved out of nothing": (
        lambda: Sketch().resolve("t0", "aborted"),
        r"sketch:1: resolve of token='t0', which no entry above sent",
    ),
    "resolved oddly": (
        lambda: Sketch().invoke(0, "t0").info(0, "t0").resolve("t0", "perhaps"),
        r"sketch:3: .*perhaps",
    ),
    "fault twice": (
        lambda: Sketch().begin("f0", "a").end("f0", "a").begin("f0", "a"),
        r"sketch:3: fault='f0' began before, in entry 0",
    ),
    "fault ended twice": (
        lambda: Sketch().begin("f0", "a").end("f0", "a").end("f0", "a"),
        r"sketch:3: fault='f0' ended before, in entry 1",
    ),
    "fault ended only": (lambda: Sketch().end("f0", "a"), r"sketch:1: fault_end of fault='f0', which did not begin"),
    "fault without a name": (lambda: Sketch().add("fault_begin", "a"), r"sketch:1: fault_begin must name its fault"),
    "time goes back": (
        lambda: Sketch().event("a", at=2.0).event("b", at=1.0),
        r"sketch:2: time_ns=1000000000 must be at least 2000000000",
    ),
    "strange image": (
        lambda: Sketch().add("invoke", "read_back").add("ok", "read_back", value={"occasion": "final", "stores": 3}),
        r"sketch:2: the value of read_back \(ok\) does not fit: .*stores",
    ),
    "strange occasion": (
        lambda: Sketch().add("invoke", "read_back").add("ok", "read_back", value={"occasion": "once", "stores": {}}),
        r"sketch:2: .*once",
    ),
    "strange probe": (lambda: Sketch().event("probe", ok="yes"), r"sketch:1: the value of probe \(event\)"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_histories_are_refused(name: str) -> None:
    """Each rule of form is held, and the message names the line and what is wrong there."""
    make, message = MALFORMED[name]
    with pytest.raises(PlanError, match=message):
        make().history()


def test_a_gap_in_the_indexes_is_refused() -> None:
    """A missing line shows by its number."""
    entries = Sketch().commit(0, "t0").entries
    with pytest.raises(PlanError, match="history:3: index=3 must be 2"):
        assemble([entries[0], entries[1], entries[3]])


def test_all_problems_are_reported_at_once_up_to_a_limit() -> None:
    """Several mistakes are told together, but a file that is no history does not fill the screen."""
    sketch = Sketch()
    for number in range(3 * PROBLEM_LIMIT):
        sketch.end(f"f{number}", "a")
    with pytest.raises(PlanError) as caught:
        sketch.history()
    assert len(caught.value.problems) == PROBLEM_LIMIT
    assert {problem.slug for problem in caught.value.problems} == {"malformed-history"}


def test_the_harness_may_have_one_operation_of_each_kind_open() -> None:
    """Work without a process number is told apart by what it does."""
    sketch = Sketch().add("invoke", "read_back").add("invoke", "sweep").add("ok", "sweep")
    sketch.add("ok", "read_back", value={"occasion": "final", "stores": {}})
    assert [one.kind for one in sketch.history().operations] == ["ok", "ok"]


def test_entries_keep_their_form_in_json() -> None:
    """The format on disk is stable: absent fields are left out, and the order is fixed."""
    entry = Sketch().fail(3, "t7", "conflict", at=0.5).entries[0]
    assert msgspec.json.encode(entry) == (
        b'{"index":0,"time_ns":500000000,"kind":"fail","f":"transact","process":3,"token":"t7","error":"conflict"}'
    )
