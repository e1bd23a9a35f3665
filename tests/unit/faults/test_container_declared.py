"""What can be known of container faults without a daemon: their arguments, their mistakes, who refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from chaos import faults
from chaos.experiment.venues import PROVIDERS
from chaos.faults.base import Fault

ALL: list[Fault] = [
    faults.Stop("redis"),
    faults.Restart("redis", grace="1s"),
    faults.SlowStart("redis", delay="500ms"),
    faults.NetworkDisconnect("redis"),
    faults.MemoryLimit("redis", 64 * 2**20),
]


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.kind)
def test_only_containers_can_do_them(fault: Fault) -> None:
    """Each is sound, and each provider but docker refuses it with a reason."""
    assert list(fault.problems()) == []
    assert {name for name in PROVIDERS if fault.refused_by(name) is None} == {"docker"}
    assert fault.refused_by("embedded") == "its server is not in a container"


def test_arguments_are_plain_values() -> None:
    """Times are in seconds, sizes in bytes."""
    assert [fault.arguments() for fault in ALL] == [
        {"store": "redis", "grace_s": 5.0},
        {"store": "redis", "grace_s": 1.0},
        {"store": "redis", "delay_s": 0.5},
        {"store": "redis"},
        {"store": "redis", "limit_bytes": 64 * 2**20},
    ]


def test_which_of_them_hold() -> None:
    """A restart and a slow start are points in time; the others hold until they are healed."""
    assert [fault.lasting for fault in ALL] == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("fault", "slug"),
    [
        (faults.Stop("sqlite"), "no-container"),
        (faults.Stop("redis", grace="61s"), "out-of-range"),
        (faults.Restart("redis", grace="soon"), "not-a-time"),
        (faults.SlowStart("redis", delay="10ms"), "out-of-range"),
        (faults.SlowStart("redis", delay=-1), "not-a-time"),
        (faults.NetworkDisconnect("graph"), "no-container"),
        (faults.MemoryLimit("redis", 6 * 2**20 - 1), "out-of-range"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_mistakes(fault: Fault, slug: Any) -> None:
    """Each mistake is told once, with its slug."""
    assert [problem.slug for problem in fault.problems()] == [slug]


def test_one_provider_for_two_families() -> None:
    """The witness: a fault that everybody can do is refused by nobody, so the refusals above say something."""
    assert [name for name in PROVIDERS if faults.Kill("redis").refused_by(name)] == []
