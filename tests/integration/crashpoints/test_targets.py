from __future__ import annotations

from pathlib import Path

import pytest

from chaos.crashpoints import session
from chaos.crashpoints.explorer import Budget
from chaos.crashpoints.judge import Outcome
from chaos.crashpoints.session import Options, Summary

pytestmark = [pytest.mark.requires("shim"), pytest.mark.slow]


def _explore(tmp_path: Path, target: str, states: int, *, draws: int = 2) -> Summary:
    options = Options(
        target=target, seed=3, jobs=2, out=tmp_path, budget=Budget(states=states), draws=draws, again=(1, 4), limit_s=20
    )
    return session.run(options, lambda _: None)


@pytest.mark.requires("redis")
def test_redis_under_always_survives_process_crashes(tmp_path: Path):
    """No process crash loses or tears anything; only a torn log, which has no checksums, does, after power loss."""
    summary = _explore(tmp_path, "redis:transactions=3", 40)
    assert summary.looked_at["P"] == summary.unique["P"] > 0
    assert all(finding.crash.startswith("power loss") for finding in summary.findings)
    assert Outcome.LOST not in {finding.outcome for finding in summary.findings}


@pytest.mark.requires("redis")
def test_redis_under_everysec_loses_what_it_acknowledged(tmp_path: Path):
    """Acknowledged before the sync means lost by power loss: documented, and found."""
    summary = _explore(tmp_path, "redis:appendfsync=everysec,transactions=3", 40)
    assert Outcome.LOST in {finding.outcome for finding in summary.findings if finding.crash == "power loss"}


@pytest.mark.requires("redis")
def test_what_the_shim_does_not_see_gives_no_verdict(tmp_path: Path):
    """Either the rewrite of the log is seen whole, or there is no verdict; never one over half of the operations."""
    summary = _explore(tmp_path, "redis:rewrite=yes,transactions=2", 1)
    assert summary.verdict != "no verdict" or summary.note


@pytest.mark.requires("ladybug")
def test_ladybug_refuses_to_open_after_a_process_crash_when_strict(tmp_path: Path):
    """A commit larger than a page that a process crash interrupts makes a strict reader refuse the whole database."""
    summary = _explore(tmp_path, "ladybug:replay=strict,transactions=4", 40, draws=0)
    found = {(finding.outcome, finding.crash) for finding in summary.findings}
    assert (Outcome.REFUSES, "process crash") in found


@pytest.mark.deep
@pytest.mark.requires("kuzu")
def test_kuzu_cannot_be_opened_after_a_crash_in_a_checkpoint(tmp_path: Path):
    """The explorer, told nothing of it, finds process crashes after which kuzu 0.11.3 does not open its database."""
    summary = _explore(tmp_path, "kuzu", 160, draws=0)
    found = {(finding.outcome, finding.crash) for finding in summary.findings}
    assert (Outcome.REFUSES, "process crash") in found
