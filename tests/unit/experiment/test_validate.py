from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

from chaos import (
    Experiment,
    Guards,
    KnownFailure,
    Limits,
    Recovery,
    checks,
    faults,
    probes,
    stores,
    systems,
    when,
    workload,
)
from chaos.checkers import Context, Verdict
from chaos.experiment.places import refine
from chaos.experiment.validate import problems_of
from chaos.faults.base import Fault
from chaos.history.view import History


@dataclass(frozen=True)
class Touch(Fault):
    """A fault of the user's own that aims at a store."""

    kind: ClassVar[str] = "test.touch"
    bites: ClassVar[tuple[str, ...]] = ("touches",)

    store: str

    def arguments(self) -> dict[str, Any]:
        """Return the store."""
        return {"store": self.store}


@dataclass(frozen=True)
class MyCheck:
    """A check that `chaos check` could not find again."""

    name: ClassVar[str] = "mine"

    def judge(self, history: History, context: Context) -> Verdict:
        """Like everything."""
        return Verdict(name=self.name, valid="valid", summary="fine")


class Strange(workload.Transfers):
    """A workload that the worker could not make again."""

    def to_config(self) -> dict[str, Any]:
        """Describe it by a name that only this file knows."""
        return {**super().to_config(), "kind": "strange"}


def experiment(**changes: Any) -> Experiment:
    """Return a good experiment with some fields changed."""
    given: dict[str, Any] = {
        "id": "good",
        "hypothesis": "Nothing is torn within 10 s.",
        "stores": (stores.SQLite(), stores.Redis(), stores.Graph()),
        "workload": workload.Transfers(seconds=10),
        "checks": (checks.Atomic(), checks.Durable()),
    }
    return Experiment(**{**given, **changes})


def slugs(value: Experiment) -> list[str]:
    """Return the slugs of an experiment's problems, sorted."""
    return sorted(problem.slug for problem in problems_of(value))


def test_good_experiment_has_no_problems() -> None:
    """A complete experiment with every kind of rule is accepted."""
    value = experiment(
        tags=("network", "two-words"),
        system=systems.Naive(),
        steady_state=[probes.PingAll(within=0.5), probes.Commits(at_least=1)],
        schedule=[
            when.at("2s").do(faults.Partition("redis")).heal(after="7.9s"),
            when.phase("compensating").do(faults.Pause("worker")).heal(at=when.phase("acknowledged", nth=9)),
            when.random(between=(3, "9s")).do(faults.Kill("graph"), Touch("sqlite")),
        ],
        recovery=Recovery(budget=1, hold=0),
        guards=Guards(before=0, during=0, after=0),
        limits=Limits(wall="2m"),
        expect=KnownFailure(check="atomic", also=("durable",), reason="It commits store by store."),
    )
    assert problems_of(value) == []


def test_defaults_are_good() -> None:
    """What must be given is enough."""
    value = Experiment(
        id="small",
        hypothesis="It holds.",
        stores=(stores.Graph(), stores.SQLite(), stores.Redis()),
        workload=workload.Transfers(),
    )
    assert problems_of(value) == []
    assert [check.name for check in value.checks] == [check.name for check in checks.standard()]


def rule(at: Any, fault: Fault | None = None) -> Any:
    """Return a rule at a time."""
    return when.at(at).do(fault or faults.Pause("redis"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": "Upper"}, ["bad-id"]),
        ({"id": "a--b"}, ["bad-id"]),
        ({"id": "../up"}, ["bad-id"]),
        ({"id": None}, ["bad-id"]),
        ({"id": "x" * 61}, ["long-id"]),
        ({"hypothesis": ""}, ["bad-hypothesis"]),
        ({"hypothesis": "No full stop"}, ["bad-hypothesis"]),
        ({"hypothesis": "Two of them. Here."}, ["bad-hypothesis"]),
        ({"tags": ("Not Good",)}, ["bad-tag"]),
        ({"tags": "network"}, ["wrong-kind"]),
        ({"tags": (3,)}, ["wrong-item"]),
        ({"system": "redo"}, ["wrong-kind"]),
        ({"system": systems.Redo}, ["wrong-kind"]),
        ({"workload": None}, ["wrong-kind"]),
        ({"workload": stores.SQLite()}, ["wrong-kind"]),
        ({"workload": workload.Transfers(clients=0)}, ["out-of-range"]),
        ({"workload": workload.Transfers(clients=1.5, accounts=2.5, initial=0.5)}, ["out-of-range"] * 3),
        ({"workload": workload.Transfers(reads_redis="no")}, ["not-a-choice"]),
        ({"workload": workload.Transfers(seconds="soon")}, ["not-a-time"]),
        ({"workload": workload.Transfers(seconds="5s")}, []),
        ({"workload": Strange()}, ["foreign-workload"]),
        ({"recovery": "10s"}, ["wrong-kind"]),
        ({"recovery": Recovery(budget="1ms", hold="11m")}, ["out-of-range", "out-of-range", "wall-too-short"]),
        ({"guards": Guards(during=-1)}, ["out-of-range"]),
        ({"guards": Guards(before=0.5)}, ["out-of-range"]),
        ({"limits": Limits(wall="9s")}, ["wall-too-short"]),
        ({"limits": Limits(wall="never")}, ["not-a-time"]),
        ({"stores": stores.SQLite()}, ["wrong-kind"]),
        ({"stores": (stores.SQLite(), stores.Redis())}, ["store-count"]),
        ({"stores": (stores.SQLite(), stores.Redis(), stores.Graph(), stores.Graph())}, ["store-count"]),
        ({"stores": (stores.SQLite, stores.Redis(), stores.Graph())}, ["wrong-item"]),
        ({"steady_state": (3,)}, ["wrong-item"]),
        ({"steady_state": (probes.Commits(at_least=0),)}, ["out-of-range"]),
        ({"schedule": (when.at("1s"),)}, ["no-fault"]),
        ({"schedule": (3,)}, ["wrong-item"]),
        ({"schedule": (rule("1s", Touch("postgres")),)}, ["unknown-store"]),
        ({"schedule": (rule("1s", faults.Partition("sqlite")),)}, ["not-networked"]),
        ({"schedule": (when.phase("sqlite.comitted").do(faults.Kill("worker")),)}, ["unknown-phase"]),
        ({"schedule": (rule("1s").heal(at=when.phase("nowhere")),)}, ["unknown-phase"]),
        ({"schedule": (when.next("nowhere").do(faults.Kill("worker")),)}, ["unknown-phase"]),
        ({"system": systems.Naive(), "schedule": (when.phase("queued").do(faults.Kill("worker")),)}, ["unknown-phase"]),
        ({"schedule": (rule("1s", faults.LoseData("graph")),)}, ["unknown-target"]),
        ({"schedule": (rule("1s", faults.Stall("31s")),)}, ["out-of-range"]),
        ({"schedule": (rule("1s", faults.Corrupt("redis")),)}, ["unknown-target"]),
        ({"schedule": (rule("1s", faults.ClockJump(0)),)}, ["out-of-range"]),
        ({"schedule": (rule("1s", faults.Corrupt("sqlite", "/etc", offset=-1)),)}, ["bad-glob", "out-of-range"]),
        ({"schedule": (rule("1s", faults.Corrupt("sqlite")), rule("2s", faults.PowerLoss()))}, ["unlogged-change"]),
        ({"schedule": (rule("10s"),)}, ["after-load"]),
        ({"schedule": (when.random(between=("9s", "10s")).do(faults.Kill("worker")),)}, ["after-load"]),
        ({"schedule": (rule("8s").heal(after="2s"),)}, ["heal-after-load"]),
        ({"schedule": (when.random(between=(1, 5)).do(faults.Pause("redis")).heal(after="6s"),)}, ["heal-after-load"]),
        ({"schedule": (rule(0),)}, ["no-work-before"]),
        ({"checks": ()}, ["no-check"]),
        ({"checks": (checks.Atomic(), checks.Atomic())}, ["check-twice"]),
        ({"checks": (checks.Atomic,)}, ["wrong-item"]),
        ({"checks": ("atomic",)}, ["wrong-item"]),
        ({"checks": (MyCheck(),)}, ["foreign-check"]),
        ({"expect": "atomic"}, ["wrong-kind"]),
        ({"expect": KnownFailure(check="atomik", reason="Because.")}, ["unknown-check"]),
        ({"expect": KnownFailure(check="atomic", also=("zombie",), reason="Because.")}, ["unknown-check"]),
        ({"expect": KnownFailure(check="atomic", reason=" ")}, ["no-reason"]),
        ({"expect": KnownFailure(check=3, reason="Because.")}, ["wrong-kind"]),  # type: ignore[arg-type]
    ],
)
def test_each_mistake_is_told_once(changes: dict[str, Any], expected: list[str]) -> None:
    """Each mistake is found, and none is told twice under another name."""
    assert slugs(experiment(**changes)) == expected


GARBAGE = (
    None,
    3,
    -1,
    float("nan"),
    "",
    "x",
    (),
    [],
    {},
    (None,),
    ("a", 3),
    [[]],
    object(),
    int,
    Touch,
    Guards(before=None),
)


@pytest.mark.parametrize("field", sorted(field.name for field in fields(Experiment) if field.init))
def test_garbage_is_told_and_never_raises(field: str) -> None:
    """Whatever is put into a field, looking for mistakes ends in a list of them."""
    found = [problems_of(experiment(**{field: garbage})) for garbage in GARBAGE]
    assert sum(map(bool, found)) >= len(GARBAGE) - 3


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_inside_values_never_raises(garbage: Any) -> None:
    """The same for the values inside: moments, faults, ends, budgets and counts."""
    value = experiment(
        steady_state=(probes.Commits(at_least=garbage, within=garbage),),
        schedule=(
            when.at(garbage).do(garbage),
            when.phase(garbage, nth=garbage).do(faults.Kill(garbage)).heal(after=garbage),
            when.random(between=garbage).do(faults.Latency(garbage, garbage)).heal(at=garbage),
            when.random(between=(garbage, garbage)).do(Touch(garbage)),
        ),
        recovery=Recovery(budget=garbage, hold=garbage),
        guards=Guards(before=garbage),
        limits=Limits(wall=garbage),
        workload=workload.Transfers(seconds=garbage, clients=garbage),
        expect=KnownFailure(check=garbage, reason=garbage, also=garbage),
        system=systems.Own(garbage),
    )
    assert len(problems_of(value)) > 5


def test_own_systems_name_their_own_phases() -> None:
    """Only the user knows the phases of the user's own system."""
    value = experiment(system=systems.Own("Mine"), schedule=(when.phase("my.phase").do(faults.Kill("worker")),))
    assert problems_of(value) == []


def test_mistakes_in_one_field_do_not_hide_those_of_others() -> None:
    """Everything is told at once: shapes, values and what lies between values."""
    value = experiment(
        id="No",
        workload=workload.Transfers(rate=0, seconds=5),
        schedule=(3, when.at("6s").do(faults.Kill("nobody")), when.phase("nowhere", nth=0).do(Touch("sqlite"))),
        limits=None,
    )
    assert slugs(value) == [
        "after-load",
        "bad-id",
        "bad-nth",
        "out-of-range",
        "unknown-phase",
        "unknown-target",
        "wrong-item",
        "wrong-kind",
    ]


def test_near_misses_are_suggested() -> None:
    """A misspelt phase or check comes with the name that was probably meant."""
    value = experiment(
        schedule=(when.phase("sqlite.comitted").do(faults.Kill("worker")),),
        expect=KnownFailure(check="atomik", reason="Because."),
    )
    texts = sorted(problem.text for problem in problems_of(value))
    assert [text.rpartition("perhaps ")[2] for text in texts] == ["atomic", "sqlite.committed"]


@pytest.mark.parametrize(
    ("fault", "possible"),
    [
        (faults.Partition(store="nosuch"), "redis"),
        (faults.DiskFull(store="nosuch"), "sqlite, redis, graph"),
        (Touch("nosuch"), "sqlite, redis, graph"),
    ],
)
def test_only_what_the_fault_can_aim_at_is_offered(fault: Fault, possible: str) -> None:
    """The names told for an unknown store are those that would be accepted in its place."""
    value = experiment(schedule=(rule("1s", fault),))
    assert [problem.text.rpartition("must be one of ")[2] for problem in problems_of(value)] == [possible]


def test_lines_are_those_of_the_arguments() -> None:
    """A problem stands at the argument it names, not at the line on which the call begins."""
    first = _line_of("MARK")
    value = experiment(
        workload=workload.Transfers(  # MARK
            accounts=1,
            clients=2,
            rate=0,
        ),
        limits=Limits(
            wall="1h",
        ),
        recovery=Recovery(hold="2h", budget="1s"),
    )
    found = [(problem.line - first, problem.text.partition("=")[0]) for problem in refine(problems_of(value))]
    assert found == [(1, "Transfers(accounts"), (3, "Transfers(rate"), (6, "Limits(wall"), (8, "Recovery(hold")]


def _line_of(mark: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))
