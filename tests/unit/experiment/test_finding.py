from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos import Finding, KnownDefect, faults, trials
from chaos.crashpoints.judge import Outcome
from chaos.errors import EnvironmentUnavailable, PlanError
from chaos.experiment import subjects
from chaos.experiment.finding import OUTCOMES, refuse_elsewhere, resolve_finding
from chaos.experiment.needs import demand


def steps(folder: Path, tell: object) -> None:
    """Do nothing."""


def check(folder: Path) -> dict[str, bool]:
    """See nothing."""
    return {}


def known(**changes: Any) -> KnownDefect:
    """Return an expectation with some fields changed."""
    return KnownDefect(**{"outcome": "crashes", "versions": ("1",), "reason": "It does.", **changes})


def finding(**changes: Any) -> Finding:
    """Return a good finding with some fields changed."""
    fields = {"id": "one", "hypothesis": "It holds.", "subject": "kuzu", "steps": steps, "expect": known(), **changes}
    return Finding(**fields)


def slugs(**changes: Any) -> list[str]:
    """Return the slugs of the mistakes of a finding."""
    return [problem.slug for problem in finding(**changes).problems()]


CRASH = {"trial": trials.Crash(during="x"), "check": check}


def test_outcomes_are_those_of_the_explorer() -> None:
    """A finding can expect whatever a look can show, and nothing else."""
    assert set(OUTCOMES) == {str(outcome) for outcome in Outcome if outcome is not Outcome.OK}


def test_good_ones_have_no_mistakes() -> None:
    """Undisturbed steps alone, and each other trial with a check."""
    assert slugs() == []
    assert slugs(**CRASH) == []
    fault = faults.DiskError("kuzu", call="sync")
    assert slugs(check=check, trial=trials.Faulted(during="x", fault=fault)) == []


@pytest.mark.parametrize(
    ("changes", "slug"),
    [
        ({"id": "One"}, "bad-id"),
        ({"hypothesis": "One. Two."}, "bad-hypothesis"),
        ({"tags": ("A",)}, "bad-tag"),
        ({"tags": "graph"}, "wrong-kind"),
        ({"subject": "oracle"}, "not-a-choice"),
        ({"limit": "1h"}, "out-of-range"),
        ({"steps": None}, "wrong-kind"),
        ({"check": check}, "wrong-kind"),
        ({**CRASH, "check": None}, "wrong-kind"),
        ({"trial": None}, "wrong-kind"),
        ({"expect": None}, "wrong-kind"),
        ({"expect": known(outcome="explodes")}, "not-a-choice"),
        ({"expect": known(also=("explodes",))}, "not-a-choice"),
        ({"expect": known(versions="1")}, "wrong-kind"),
        ({"expect": known(versions=())}, "no-name"),
        ({"expect": known(reason=" ")}, "no-reason"),
        ({**CRASH, "trial": trials.Crash(during="")}, "no-name"),
        ({**CRASH, "trial": trials.Crash(during="x", after="")}, "no-name"),
        ({**CRASH, "trial": trials.Crash(during="x", looks=0)}, "out-of-range"),
        ({**CRASH, "trial": trials.PowerLoss(during="x", again=1)}, "not-a-choice"),
        ({"check": check, "trial": trials.Faulted(during="x", fault=None)}, "wrong-kind"),
        ({"check": check, "trial": trials.Faulted(during="x", fault=faults.DiskError("graph"))}, "unknown-store"),
        ({"check": check, "trial": trials.Faulted(during="x", fault=faults.DiskError("kuzu", nth=0))}, "out-of-range"),
    ],
)
def test_each_mistake_is_told(changes: dict[str, Any], slug: str) -> None:
    """One value that is wrong is one problem, at its place."""
    assert slugs(**changes) == [slug]


def test_a_plan_holds_what_is_judged_by() -> None:
    """The expectation and the trial are in plan.json; functions are not."""
    fault = faults.DiskError("kuzu", call="sync", path="*.wal")
    plan = resolve_finding(finding(check=check, trial=trials.Faulted(during="x", fault=fault)), 3, Path("f.py"))
    written = plan.to_json()
    assert (written["seed"], written["subject"], written["rules"]) == (3, "kuzu", [])
    assert written["trial"]["kind"] == "faulted"
    assert written["trial"]["fault"]["kind"] == "disk.error"
    assert written["expect"] == {
        "outcome": ["crashes"],
        "says": "",
        "also": [],
        "versions": ["1"],
        "reason": "It does.",
    }


def test_an_invalid_one_has_no_plan() -> None:
    """Nothing is resolved that is wrong."""
    with pytest.raises(PlanError):
        resolve_finding(finding(id="Bad"), 0, Path("f.py"))


@pytest.mark.parametrize("place", [{"backend": "docker"}, {"proxy": "toxiproxy"}, {"graph": "ladybug"}])
def test_other_places_are_refused(place: dict[str, str]) -> None:
    """A finding is about one version in a process of this machine; nothing is ignored in silence."""
    asked: dict[str, Any] = {"backend": "embedded", "proxy": "embedded", "graph": None, **place}
    with pytest.raises(PlanError, match="provider-cannot"):
        refuse_elsewhere(finding(), **asked)
    refuse_elsewhere(finding(), backend="embedded", proxy="embedded", graph=None)


def test_an_absent_subject_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """CHAOS_REQUIRE can name it, and the remedy is there."""

    def absent(_: str) -> str:
        raise subjects.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(subjects.importlib.metadata, "version", absent)
    with pytest.raises(EnvironmentUnavailable, match="pip install 'chaos-harness") as caught:
        demand(finding(subject="ladybug"))
    assert caught.value.requirement == "ladybug"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1", "valkey 9.1.2"),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=9", "redis 7.0.15"),
    ],
)
def test_a_server_is_named_with_its_version(said: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A valkey and a redis of one number are two things."""
    monkeypatch.setattr("chaos.backends.redis_server.ServerBinary.version", lambda _: said)
    monkeypatch.setattr("chaos.backends.redis_server.find_server", functools.partial(_binary, Path("server")))
    assert subjects.version_of("server") == version


def _binary(path: Path) -> Any:
    from chaos.backends.redis_server import ServerBinary

    return ServerBinary(path, "a test")


def test_steps_are_any_callable() -> None:
    """One function can serve several findings."""
    bound: Callable[..., None] = functools.partial(steps)
    assert slugs(steps=bound) == []
