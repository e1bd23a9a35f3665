"""The reference page of faults says everything there is: classes, kinds, parameters, evidence, providers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import chaos.faults
from chaos.experiment.venues import PROVIDERS
from chaos.faults.base import Fault
from chaos.faults.network.kinds import TOXICS, make_toxic

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^### (.+)$", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
FAULTS = {
    name: kind
    for name in chaos.faults.__all__
    if isinstance(kind := getattr(chaos.faults, name), type) and issubclass(kind, Fault) and kind is not Fault
}

PLAIN: dict[str, Any] = {
    "store": "redis",
    "target": "worker",
    "delay": "50ms",
    "duration": "50ms",
    "after": "50ms",
    "by_s": 60,
    "up": "1s",
    "down": "1s",
    "rate": 0.5,
    "average_bytes": 64,
    "limit_bytes": 2**30,
    "keep_bytes": 1,
    "shift_bytes": 512,
    "call": "write",
    "command": "GET",
}
"""A value for each parameter that some fault requires."""


def _plain(kind: type[Fault]) -> Fault:
    """Return a fault of this kind with nothing but what it requires."""
    required = [one.name for one in _parameters(kind) if one.default is dataclasses.MISSING]
    values = {**PLAIN}
    if kind.kind.startswith("disk."):
        values["store"] = "sqlite"
    if kind.kind == "network.bandwidth":
        values["rate"] = 1000
    targets = {"process.lose_data": "redis", "process.hold_lock": "sqlite", "process.corrupt": "sqlite"}
    values["target"] = targets.get(kind.kind, "worker")
    if "do" in required:
        values["do"] = chaos.faults.Drop()
    return kind(**{name: values[name] for name in required})


def _parameters(kind: type[Fault]) -> list[dataclasses.Field[Any]]:
    return [one for one in dataclasses.fields(kind) if one.init]


def test_page_and_package_have_the_same_faults() -> None:
    """No fault without its section, and no section of a fault that went."""
    assert len(FAULTS) > 20
    assert set(SECTIONS) == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_section_is_true(name: str) -> None:
    """Kind, parameters with their defaults, evidence that bites, and who can do a plain one."""
    kind, section = FAULTS[name], SECTIONS[name]
    fault = _plain(kind)
    assert list(fault.problems()) == []
    assert section.lstrip().startswith(f"`{kind.kind}`.")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", section, flags=re.MULTILINE)
    assert rows == [
        (one.name, "required" if one.default is dataclasses.MISSING else f"`{one.default!r}`")
        for one in _parameters(kind)
    ]
    evidence = section[section.index("Evidence: ") :].replace("\n", " ")
    assert set(re.findall(r"\*\*`(\w+)`\*\*", evidence)) == set(kind.bites)
    written = re.search(r"Where: ([\w, ]+)\.", evidence)
    assert written
    assert [one.strip() for one in written[1].split(",")] == [one for one in PROVIDERS if fault.refused_by(one) is None]


@pytest.mark.parametrize("name", [name for name, kind in FAULTS.items() if kind.kind.startswith("network.")])
def test_each_network_fault_has_its_toxic(name: str) -> None:
    """What is declared can be carried out: the proxy makes the toxic of that kind from the arguments."""
    fault = _plain(FAULTS[name])
    arguments = {key: value for key, value in fault.arguments().items() if key != "store"}
    assert type(make_toxic(fault.kind, arguments)) is TOXICS[fault.kind]
