"""Power loss as a value: its mistakes, its refusals, and what it asks of the lever."""

from __future__ import annotations

import importlib.util
from random import Random
from typing import Any

import pytest

from chaos import Experiment, stores, when, workload
from chaos.errors import EnvironmentUnavailable
from chaos.experiment import needs
from chaos.faults.base import Evidence, Injection
from chaos.faults.disk import library
from chaos.faults.disk.power import POLICIES, PowerLoss


class Switch:
    """A power lever that notes what it is asked."""

    def __init__(self, **evidence: int | str) -> None:
        """Answer a cut with this evidence."""
        self.evidence = evidence
        self.asked: list[tuple[str, ...]] = []

    def power(self) -> Switch:
        """Return the lever."""
        return self

    async def off(self, fault_id: str, policy: str, rng: Random) -> Evidence:
        """Note the cut, and a draw from the fault's stream."""
        self.asked.append(("off", fault_id, policy, str(rng.random())))
        return dict(self.evidence)

    async def on(self, fault_id: str) -> Evidence:
        """Note the return; only the first has something to tell."""
        self.asked.append(("on", fault_id))
        return {"redis_log_cut_bytes": 7} if len(self.asked) == 2 else {}


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_loss_is_a_cut_and_a_return(policy: str) -> None:
    """Injecting takes the power away under the policy, with the fault's own stream; healing brings it back."""
    switch: Any = Switch(folders_rebuilt=3, bytes_lost=0)
    fault = PowerLoss(policy)
    injection = await fault.inject(switch, "f4", Random(5))
    evidence = await fault.heal(switch, injection)
    assert switch.asked == [("off", "f4", policy, str(Random(5).random())), ("on", "f4")]
    assert evidence == {"folders_rebuilt": 3, "bytes_lost": 0, "redis_log_cut_bytes": 7}
    assert fault.landed(evidence)
    assert await fault.heal(switch, injection) == evidence


async def test_a_refused_loss_has_not_landed() -> None:
    """Processes that died are not enough: without the rebuilt disk it was a crash of processes, under a wrong name."""
    switch: Any = Switch(processes_killed=3, refused="tainted")
    fault = PowerLoss()
    evidence = await fault.heal(switch, await fault.inject(switch, "f0", Random(0)))
    assert evidence["processes_killed"] == 3
    assert not fault.landed(evidence)


async def test_heal_of_something_never_begun() -> None:
    """Healing after an inject that was cut short asks the lever, which knows what is still off."""
    switch: Any = Switch()
    assert await PowerLoss().heal(switch, Injection("f0")) == {}
    assert switch.asked == [("on", "f0")]


def test_declaration() -> None:
    """A point in time that names its policy and aims at nothing smaller than the machine."""
    fault = PowerLoss("ordered")
    assert list(fault.problems()) == []
    assert (fault.lasting, fault.arguments()) == (False, {"policy": "ordered"})


def test_an_unknown_policy_is_told() -> None:
    """With its place, its bound and a remedy."""
    [problem] = PowerLoss("btrfs").problems()
    assert problem.slug == "not-a-choice"
    assert "posix, ordered, random, applied" in problem.text
    assert problem.file == __file__


def test_only_containers_refuse_it() -> None:
    """The shim is in no container, so what is synced there is not known; any proxy will do."""
    assert PowerLoss().refused_by("embedded") is None
    assert PowerLoss().refused_by("toxiproxy") is None
    assert "file shim" in str(PowerLoss().refused_by("docker"))


def test_without_a_shim_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment with a loss of power needs the shim, and says so by name."""
    experiment = Experiment(
        id="power",
        hypothesis="Nothing is lost.",
        stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
        workload=workload.Transfers(),
        schedule=(when.at("1s").do(PowerLoss()),),
    )
    monkeypatch.setattr(needs, "_servers", lambda *_: [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(library, "available", lambda: (False, "no compiler"))
    with pytest.raises(EnvironmentUnavailable, match=r"disk\.power_loss .*no compiler"):
        needs.demand(experiment)
