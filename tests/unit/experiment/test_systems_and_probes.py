from __future__ import annotations

from pathlib import Path

import pytest

from chaos import probes, systems


def test_own_systems_are_named_by_their_file(tmp_path: Path) -> None:
    """A class of the user's own is found in the experiment's file, or in one beside it, by an absolute path."""
    source = tmp_path / "mine.py"
    assert systems.Own("Mine").location(source) == f"{source}:Mine"
    assert systems.Own("lib/other.py:Other").location(source) == f"{tmp_path}/lib/other.py:Other"


def test_systems_of_the_package_are_modules() -> None:
    """Ours and the naive one are loaded by module name, wherever the experiment is."""
    assert systems.Redo().location(Path("a.py")) == "chaos.transactions.redo:RedoSystem"
    assert systems.Epoxy().location(Path("a.py")) == "chaos.transactions.epoxy:EpoxySystem"
    assert systems.Naive().location(Path("a.py")) == "chaos.transactions.naive:NaiveSystem"


def test_settings_of_a_system_are_plain_values() -> None:
    """How often bases are made is told to the worker, and has its bounds; a system of the user's own gets nothing."""
    assert systems.Epoxy(base_every=16).to_config() == systems.Redo(base_every=16).to_config() == {"base_every": 16}
    assert systems.Redo().to_config() == systems.Own("Mine").to_config() == systems.Naive().to_config() == {}
    for one in (systems.Redo(base_every=0), systems.Epoxy(base_every=0)):
        assert [problem.slug for problem in one.problems()] == ["out-of-range"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [("not a class", "bad-system-name"), ("other.txt:Other", "bad-system-name"), ("", "bad-system-name")],
)
def test_bad_names_of_systems(name: str, slug: str) -> None:
    """A name that is no class, or a file that is no Python, is told."""
    assert [problem.slug for problem in systems.Own(name).problems()] == [slug]


def test_missing_file_of_a_system() -> None:
    """A file that is not beside the experiment is told before anything is started."""
    (problem,) = systems.Own("nowhere_to_be_found.py:Other").problems()
    assert problem.slug == "no-system-file"
    assert str(Path(__file__).parent / "nowhere_to_be_found.py") in problem.remedy
    assert list(systems.Own(f"{Path(__file__).name}:Other").problems()) == []


def test_probes_tell_their_mistakes() -> None:
    """Times and counts out of range are told; good ones become plain JSON."""
    assert [problem.slug for problem in probes.PingAll(within="0s").problems()] == ["out-of-range"]
    bad = probes.Commits(at_least=0, within="ages")
    assert sorted(problem.slug for problem in bad.problems()) == ["not-a-time", "out-of-range"]
    assert probes.Commits(at_least=3, within="500ms").arguments() == {"at_least": 3, "within_s": 0.5}
