"""The coordinated system under the explorer: it keeps its promise in every state, and one with a promise less is caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.crashpoints import session
from chaos.crashpoints.explorer import Budget
from chaos.crashpoints.judge import Outcome
from chaos.crashpoints.session import Options, Summary
from chaos.crashpoints.targets import system

PLANTED = Path(__file__).parents[2] / "planted" / "systems.py"

pytestmark = [pytest.mark.requires("shim", "redis"), pytest.mark.slow]


def _explore(tmp_path: Path, target: str, states: int, *, again: tuple[int, int] = (0, 0)) -> Summary:
    options = Options(target=target, seed=3, jobs=2, out=tmp_path, budget=Budget(states=states), again=again)
    return session.run(options, lambda _: None)


ENGINES = [pytest.param(name, marks=pytest.mark.requires(name)) for name in ("kuzu", "ladybug")]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_coordinated_system_is_explored_as_a_whole(tmp_path: Path, engine: str):
    """One recording covers all stores; what a crash leaves is made again where it must be, and that is told."""
    summary = _explore(tmp_path, f"system:engine={engine},transactions=2", 15)
    assert summary.findings == []
    assert summary.acknowledged == 2
    assert sum(summary.looked_at.values()) == 15
    assert summary.told["graph was made again from the commit log"] > 0
    assert 0 < summary.recovered_s_max < 10
    files = [path.relative_to(Path(summary.folder) / "start") for path in (Path(summary.folder) / "start").rglob("*")]
    assert {path.parts[0] for path in files} == {"graph", "redis", "sqlite"}


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", ENGINES)
def test_no_state_breaks_a_promise(tmp_path: Path, engine: str):
    """Over twenty transactions no state loses, tears or refuses anything, second crashes included.

    The nightly job looks at thousands more with `chaos explore`.
    """
    options = Options(
        target=f"system:engine={engine},transactions=20",
        seed=3,
        jobs=session.default_jobs(),
        out=tmp_path,
        budget=Budget(states=400),
        again=(4, session.AGAIN_STATES),
    )
    summary = session.run(options, lambda _: None)
    assert summary.findings == []
    assert summary.acknowledged == 20
    assert sum(summary.looked_at.values()) == 400
    assert summary.recovery_states_looked_at > 40


MUTANTS = [
    pytest.param("NoFsync", {Outcome.LOST}, 40, id="NoFsync"),
    pytest.param("LazyFsync", {Outcome.LOST}, 40, id="LazyFsync"),
    pytest.param("EagerPurge", {Outcome.REFUSES}, 6, id="EagerPurge"),
    pytest.param("TrustingGraph", {Outcome.REFUSES, Outcome.PARTIAL, Outcome.CRASHES}, 80, id="TrustingGraph"),
    pytest.param("EarlyApply", {Outcome.PARTIAL, Outcome.CORRUPTED}, 40, id="EarlyApply"),
]


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.requires("ladybug")
@pytest.mark.parametrize(("mutant", "outcomes", "states"), MUTANTS)
def test_a_mutant_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: str, outcomes: set[Outcome], states: int
):
    """With one promise taken out of the coordinator, states are found that break what it told its clients."""
    monkeypatch.setattr(system, "_AGREE_S", 2.0)
    summary = _explore(tmp_path, f"system:engine=ladybug,transactions=4,coordinator={PLANTED}:{mutant}", states)
    assert outcomes & {finding.outcome for finding in summary.findings}
