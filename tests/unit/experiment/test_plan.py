from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos import Experiment, KnownFailure, Recovery, checks, faults, stores, systems, when, workload
from chaos.checkers import Context, of_plan
from chaos.errors import PlanError
from chaos.experiment.plan import AfterDelay, AtPhase, AtTime, Never, Plan, resolve
from chaos.experiment.repeat import repeat_line


def experiment(**changes: Any) -> Experiment:
    """Return an experiment with every kind of moment."""
    fields: dict[str, Any] = {
        "id": "moments",
        "hypothesis": "It holds.",
        "stores": (stores.SQLite(), stores.Redis(), stores.Graph(engine="ladybug")),
        "workload": workload.Transfers(seconds=10),
        "schedule": (
            when.at("1500ms").do(faults.Partition("redis")).heal(after="2s"),
            when.phase("sqlite.committed", nth=3).do(faults.Disconnect("redis")),
            when.random(between=("5s", "7s"))
            .do(faults.Pause("graph"), faults.Latency("redis", "80ms"))
            .heal(at=when.phase("acknowledged", nth=200)),
            when.random(between=("5s", "7s")).do(faults.Pause("worker")).never(),
        ),
    }
    return Experiment(**{**fields, **changes})


def plan(seed: int = 7, **changes: Any) -> Plan:
    """Return the plan of the experiment, changed, for a seed."""
    return resolve(experiment(**changes), seed, Path("moments.py"))


def test_moments_are_resolved() -> None:
    """Every rule becomes one planned rule per fault, numbered in the order written; a missing end is the load's."""
    rules = plan().rules
    assert [rule.id for rule in rules] == ["f0", "f1", "f2", "f3", "f4"]
    assert (rules[0].trigger, rules[0].until) == (AtTime(1.5), AfterDelay(2.0))
    assert (rules[1].trigger, rules[1].until) == (AtPhase("sqlite.committed", 3), Never())
    assert rules[2].trigger == rules[3].trigger
    assert rules[3].until == AtPhase("acknowledged", 200)
    assert rules[4].until == Never()


def test_drawn_moments_lie_in_their_window() -> None:
    """For many seeds the moment is within the window, and spread over it."""
    moments = [plan(seed).rules[2].trigger for seed in range(50)]
    drawn = [moment.seconds for moment in moments if isinstance(moment, AtTime)]
    assert len(drawn) == 50
    assert all(5 <= moment <= 7 for moment in drawn)
    assert max(drawn) - min(drawn) > 1


def test_same_seed_same_plan() -> None:
    """The seed decides everything that is drawn: the same one gives the same plan, another another."""
    assert plan(7).to_json() == plan(7).to_json()
    assert plan(7).rules == plan(7).rules
    assert plan(7).rules != plan(8).rules


def test_rules_draw_independently() -> None:
    """Two rules with the same window do not draw the same moment."""
    rules = plan().rules
    assert rules[2].trigger != rules[4].trigger


def test_plan_is_json_and_tells_the_checkers_what_they_need() -> None:
    """What is written to plan.json is enough to judge the history again without the experiment's file."""
    value = plan(
        recovery=Recovery(budget="3s", hold="500ms"),
        checks=(checks.Durable(), checks.Atomic()),
        expect=KnownFailure(check="atomic", also=("durable",), reason="Known."),
        system=systems.Own("Mine"),
    )
    document = json.loads(json.dumps(value.to_json()))
    context = Context.from_plan(document)
    assert context.stores == ("sqlite", "redis", "graph")
    assert (context.budget_s, context.hold_s) == (3.0, 0.5)
    assert [(fault.id, fault.kind) for fault in context.faults][:2] == [
        ("f0", "network.partition"),
        ("f1", "network.disconnect"),
    ]
    assert [fault.stops_work for fault in context.faults] == [False, False, False, False, True]
    assert context.expect is not None
    assert (context.expect.names, context.expect.also) == (("atomic",), ("durable",))
    assert [check.name for check in of_plan(document)] == ["durable", "atomic"]
    assert document["system"] == f"{Path('moments.py').resolve()}:Mine"
    assert document["stores"]["graph"]["engine"] == "ladybug"
    assert document["rules"][2]["trigger"]["drawn_from_s"] == [5.0, 7.0]


def test_invalid_experiments_are_not_resolved() -> None:
    """A plan of something invalid does not exist; every problem is told."""
    with pytest.raises(PlanError) as caught:
        plan(id="No Good", checks=())
    assert {problem.slug for problem in caught.value.problems} == {"bad-id", "no-check"}


def test_repeat_line_is_exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The line names file, experiment, seed and whatever was not left at its default, quoted for a shell."""
    monkeypatch.chdir(tmp_path)
    alone = resolve(experiment(), 7, Path("a file.py"))
    one_of_many = resolve(experiment(), 7, Path("many.py"), alone=False)
    assert repeat_line(alone) == "chaos run 'a file.py' --seed 7"
    assert repeat_line(one_of_many, graph="ladybug") == "chaos run many.py::moments --seed 7 --graph ladybug"
