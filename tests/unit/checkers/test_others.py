from __future__ import annotations

from chaos.checkers import Context, Converged, Durable, ExactlyOnce, Landed, NoZombie, Synced
from chaos.checkers.model import Guard, PlannedFault, Verdict
from chaos.checkers.words import count_of, listed
from chaos.history.sketch import Sketch

CONTEXT = Context(stores=("sqlite", "redis", "graph"), faults=(PlannedFault("f0", "network.partition"),))


def test_durable_names_the_stores_that_lost_it() -> None:
    """The witness and the counts say where an acknowledged transaction is missing."""
    marks = {"t0": "m-t0"}
    verdict = Durable().judge(Sketch().commit(0, "t0").read_both(sqlite=marks, redis={}, graph={}).history(), CONTEXT)
    assert verdict.details["lost"] == {"sqlite": 0, "redis": 1, "graph": 1}
    assert "was acknowledged at 0.004 s; it is lost in redis and graph: sqlite holds m-t0" in verdict.witnesses[0].text


def test_no_zombie_names_the_stores_that_hold_it() -> None:
    """The witness says what the client was told and what is there all the same."""
    sketch = Sketch().invoke(0, "t0").fail(0, "t0").read_both(sqlite={}, redis={"t0": "m-t0"}, graph={})
    verdict = NoZombie().judge(sketch.history(), CONTEXT)
    assert verdict.details["found"] == {"sqlite": 0, "redis": 1, "graph": 0}
    assert verdict.witnesses[0].text == (
        "transaction t0 (entry 1) was reported aborted at 0.002 s; yet sqlite holds nothing, redis holds m-t0, "
        "graph holds nothing (read back in entry 3)"
    )


def test_exactly_once_tells_a_repeated_effect_once() -> None:
    """The same repeat in two readings is one finding."""
    marks = {"t0": ["m-t0", "m-t0"]}
    sketch = Sketch().commit(0, "t0").read_both(sqlite={"t0": "m-t0"}, redis=marks, graph={"t0": "m-t0"})
    verdict = ExactlyOnce().judge(sketch.history(), CONTEXT)
    assert verdict.details["witness_count"] == 1
    assert "redis holds it more than once: m-t0 and m-t0" in verdict.witnesses[0].text


def test_converged_names_the_store_that_is_apart() -> None:
    """The witness groups stores by what they have in common."""
    sketch = Sketch().event("load_stopped", at=1.0).agreement(True).agreement(False, "holding", at=1.5)
    verdict = Converged().judge(sketch.history(), CONTEXT)
    assert verdict.witnesses[0].text.endswith("differ again at 1.500 s: sqlite+graph against redis (entry 2)")


def test_agreement_before_the_last_disagreement_does_not_count() -> None:
    """Convergence is the beginning of lasting agreement, not the first lucky look."""
    sketch = Sketch().event("load_stopped", at=1.0).agreement(True, at=1.1).agreement(False, at=1.2)
    sketch.agreement(True, at=1.7).agreement(True, "holding", at=2.8)
    verdict = Converged().judge(sketch.history(), CONTEXT)
    assert (verdict.valid, verdict.details["agreed_s"]) == ("valid", 0.7)


def test_landed_counts_the_work_around_each_fault() -> None:
    """The details say how much was acknowledged before, during and after."""
    sketch = Sketch().commit(0, "t0").commit(0, "t1").begin("f0", "network.partition").commit(0, "t2")
    sketch.end("f0", "network.partition").commit(0, "t3").commit(0, "t4").commit(0, "t5")
    (line,) = Landed().judge(sketch.history(), CONTEXT).details["faults"]
    assert (line["before"], line["during"], line["after"], line["evidence"]) == (2, 1, 3, {"bytes_held": 1})


def test_landed_tells_every_reason() -> None:
    """Several things wrong with a run are told together."""
    sketch = Sketch().begin("f0", "network.partition").end("f0", "network.partition", landed=False)
    verdict = Landed().judge(sketch.history(), CONTEXT)
    assert len(verdict.details["unknown"]) == 4
    assert "did nothing" in verdict.summary
    assert "before" in verdict.summary


def test_synced_shows_both_counts() -> None:
    """The witness gives the counts and the entries they come from."""
    verdict = Synced().judge(Sketch().commit(0, "t0", syncs=(7, 7)).history(), CONTEXT)
    assert "had been synced 7 times before its commit (entry 1) and 7 times after it (entry 2)" in (
        verdict.witnesses[0].text
    )


def test_words() -> None:
    """Counts and lists read like sentences."""
    assert (count_of(1, "fault"), count_of(0, "fault")) == ("1 fault", "0 faults")
    assert (listed(["a", "b", "c"]), listed(["a"]), listed([])) == ("a, b and c", "a", "nothing")


def test_exactly_once_says_which_store_lost_a_counter() -> None:
    """A store that reports counters and lacks one is named, and nothing is equal in all stores."""
    sketch = Sketch().commit(0, "t0").read_both(sqlite={"t0": "m-t0"}, redis={"t0": "m-t0"}, graph={"t0": "m-t0"})
    for entry in sketch.entries:
        if entry.kind == "ok" and entry.f == "read_back":
            stores = entry.value["stores"]
            stores["sqlite"]["counters"], stores["redis"]["counters"] = {"a": 1, "b": 2}, {"b": 2}
    verdict = ExactlyOnce().judge(sketch.history(), CONTEXT)
    assert verdict.valid == "invalid"
    assert verdict.witnesses[0].text == "counter a: sqlite says 1, redis has none (read back in entry 5)"


def met(well_before: bool | None, *, earlier: float | None = None, work: bool = False) -> Verdict:
    """Return what `landed` says of a fault at 50 s; `earlier`: when another one ended, `work`: some just before."""
    sketch = Sketch().commit(0, "t0", at=1.0)
    if earlier is not None:
        sketch.begin("f9", "network.partition", at=2.0).end("f9", "network.partition", at=earlier)
    if work:
        sketch.commit(0, "t1", at=49.5)
    sketch.begin("f0", "network.partition", at=50.0, well_before=well_before).commit(0, "t2", at=51.0)
    sketch.end("f0", "network.partition", at=52.0).event("probe", ok=True).commit(0, "t3", at=53.0)
    return Landed().judge(sketch.history(), CONTEXT)


def test_a_fault_that_met_an_ill_system_proves_nothing() -> None:
    """No other fault explains why it was not well, and no work says that it was."""
    verdict = met(False)
    assert verdict.valid == "unknown"
    assert verdict.summary == (
        "the system was not well when f0 (network.partition) began, although no other fault held"
    )
    assert [met(False, work=True).valid, met(None).valid, met(True).valid] == ["valid", "valid", "valid"]


def test_a_fault_that_follows_another_closely_may_meet_an_ill_system() -> None:
    """Within the budget it is entitled to be ill: that is told and is no reason; later it is one."""
    assert [met(False, earlier=45.0).valid, met(False, earlier=30.0).valid] == ["valid", "unknown"]
    assert met(False, earlier=45.0).summary.endswith("; the system was not well yet when f0 began")


def test_guards_that_demand_no_work_before_ask_for_no_health_either() -> None:
    """Who means it may hit a system that is ill."""
    sketch = Sketch().begin("f0", "network.partition", at=50.0, well_before=False).commit(0, "t0", at=51.0)
    sketch.end("f0", "network.partition", at=52.0).commit(0, "t1", at=53.0)
    context = Context(stores=CONTEXT.stores, faults=CONTEXT.faults, guards=Guard(before=0))
    assert Landed().judge(sketch.history(), context).valid == "valid"


def test_landed_tells_of_an_end_that_did_not_come_and_of_health_after_the_heal() -> None:
    """A fault that was healed because the load had ended is named; the first probe after each heal is kept."""
    sketch = Sketch().commit(0, "t0").begin("f0", "network.partition").commit(0, "t1")
    value = {"evidence": {"bytes_held": 1}, "landed": True, "end_came": False}
    sketch.add("fault_end", "network.partition", fault="f0", value=value)
    sketch.add("event", "probe", fault="f0", value={"ok": False, "occasion": "healed"}).commit(0, "t2")
    verdict = Landed().judge(sketch.history(), CONTEXT)
    assert verdict.summary.endswith("; f0 held until the load ended, because the planned end did not come")
    (line,) = verdict.details["faults"]
    assert (line["end_came"], line["well_before"], line["well_after"]) == (False, None, False)
