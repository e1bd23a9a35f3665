"""docs/findings.md and experiments/findings/ tell the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.experiment.finding import Finding
from chaos.experiment.loader import Loaded, load

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
FOLDER = ROOT / "experiments" / "findings"
LOADED = {item.experiment.id: item for item in load([FOLDER])}


def sections() -> Iterator[tuple[dict[str, str], str]]:
    """Yield the table and the text of each section that has one."""
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        rows = dict(re.findall(r"^\| (experiments|versions|crash|repeat) \| (.+) \|$", text, flags=re.MULTILINE))
        if rows:
            yield rows, text


ROWS = {name: (rows, text) for rows, text in sections() for name in re.findall(r"`([a-z-]+)`", rows["experiments"])}


def test_the_page_names_every_finding_and_no_other() -> None:
    """A finding without its section, and a section whose finding is gone, are both seen."""
    assert set(ROWS) == set(LOADED)


@pytest.mark.parametrize("name", sorted(LOADED))
def test_versions_and_repeat_line_are_those_of_the_experiment(name: str) -> None:
    """What is affected and how to see it again are told as the file has them."""
    loaded: Loaded = LOADED[name]
    finding: Any = loaded.experiment
    assert isinstance(finding, Finding)
    rows, text = ROWS[name]
    for version in finding.expect.versions:
        assert f"{finding.subject} {version}" in rows["versions"]
    assert rows["repeat"] == f"`chaos run {loaded.source.relative_to(ROOT)}`"
    assert re.search(rf"^{name}: confirmed by ", text, flags=re.MULTILINE) or "not possible with the means here" in text
    shown = " ".join(text.split())
    assert any(word in shown for word in finding.expect.names), "the evidence shows the outcome"
    assert " ".join(finding.expect.says.split()) in shown, "the evidence shows the words by which it is known"


def test_no_file_imports_an_engine_at_its_top() -> None:
    """Listing them starts nothing, and a subject that is absent is no mistake in a file."""
    for path in FOLDER.glob("*.py"):
        top = re.findall(r"^(?:import|from) (\w+)", path.read_text(), flags=re.MULTILINE)
        assert not {"kuzu", "ladybug"} & set(top), path.name
