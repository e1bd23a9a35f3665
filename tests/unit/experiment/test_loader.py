from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chaos.errors import NothingSelected, PlanError
from chaos.experiment.loader import load

GOOD = """
from chaos import Experiment, stores, workload

{name} = Experiment(
    id="{id}",
    hypothesis="It holds.",
    tags={tags!r},
    stores=(stores.SQLite(), stores.Redis(), stores.Graph()),
    workload=workload.Transfers(),
)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, text: str) -> None:
    """Write a file below the current folder."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def good(experiment_id: str, tags: tuple[str, ...] = (), name: str = "EXPERIMENT") -> str:
    """Return the text of a file with one good experiment, from its second line on."""
    return GOOD.format(id=experiment_id, tags=tags, name=name)


def problems(*selectors: str) -> list[tuple[str, int, str]]:
    """Return file, line and slug of every problem of files that are not valid."""
    with pytest.raises(PlanError) as caught:
        load(selectors)
    return [(problem.file, problem.line, problem.slug) for problem in caught.value.problems]


def test_file_is_loaded(folder: Path) -> None:
    """The experiment comes with its absolute file, and is named by the file alone."""
    write("one.py", good("one"))
    (loaded,) = load(["one.py"])
    assert loaded.experiment.id == "one"
    assert loaded.source == folder / "one.py"
    assert loaded.selector == "one.py"
    assert (loaded.experiment.where.file, loaded.experiment.where.line) == (str(folder / "one.py"), 4)


def test_what_a_file_prints_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    """It goes to stderr, so that one JSON document stays one."""
    write("one.py", good("one") + "\nprint('hello')\n")
    load(["one.py"])
    assert capsys.readouterr() == ("", "hello\n")


def test_folder_is_loaded_in_order() -> None:
    """A folder means its Python files by name, without those that start with an underscore, each file once."""
    write("all/b.py", good("b"))
    write("all/a.py", good("a"))
    write("all/_c.py", "raise RuntimeError")
    write("all/d.txt", "not Python")
    assert [item.experiment.id for item in load(["all", "all/b.py"])] == ["a", "b"]


def test_several_experiments_of_a_file() -> None:
    """EXPERIMENTS holds several; file.py::id names one of them, also to repeat it."""
    text = good("first", name="A") + good("second", name="B") + "\nEXPERIMENTS = (A, B)\n"
    write("two.py", text)
    assert [item.selector for item in load(["two.py"])] == ["two.py::first", "two.py::second"]
    assert [item.experiment.id for item in load(["two.py::second"])] == ["second"]
    assert problems("two.py::third") == [("two.py", 0, "no-such-id")]


def test_tags_select() -> None:
    """With tags only experiments that have all of them remain; with none left nothing is selected."""
    write("all/a.py", good("a", ("net",)))
    write("all/b.py", good("b", ("net", "slow")))
    assert [item.experiment.id for item in load(["all"], tags=["net", "slow"])] == ["b"]
    with pytest.raises(NothingSelected, match="fast"):
        load(["all"], tags=["fast"])


def test_empty_folder_selects_nothing() -> None:
    """A folder without experiments is no mistake in a plan."""
    Path("empty").mkdir()
    with pytest.raises(NothingSelected, match="empty"):
        load(["empty"])


def test_a_file_that_raises_is_told_at_its_own_line() -> None:
    """The line is the innermost one in the user's file, even when the error came from deeper."""
    write("bad.py", "def helper():\n    return int('seven')\n\n\nEXPERIMENT = helper()\n")
    write("deep.py", "import json\n\njson.loads('{')\n")
    write("exits.py", "import sys\nsys.exit(3)\n")
    write("torn.py", "EXPERIMENT = (\n")
    found = problems("bad.py", "deep.py", "exits.py", "torn.py")
    assert found == [
        ("bad.py", 2, "file-raises"),
        ("deep.py", 3, "file-raises"),
        ("exits.py", 2, "file-raises"),
        ("torn.py", 1, "file-raises"),
    ]


def test_wrong_arguments_are_told_at_their_line() -> None:
    """An unknown argument is Python's own TypeError, placed where the user wrote it."""
    write("odd.py", "from chaos import faults\n\nX = faults.Kill(whom='worker')\n")
    assert problems("odd.py") == [("odd.py", 3, "file-raises")]


@pytest.mark.parametrize(
    "text", ["", "EXPERIMENT = 3", "EXPERIMENTS = []", "EXPERIMENTS = [3]", good("a") + "\nEXPERIMENTS = [EXPERIMENT]"]
)
def test_a_file_without_an_experiment(text: str) -> None:
    """A file must hold EXPERIMENT or EXPERIMENTS, of the right kind, and not both."""
    write("none.py", text)
    assert problems("none.py") == [("none.py", 0, "no-experiment")]


def test_missing_and_foreign_files() -> None:
    """A path that is not there, and a file that is not Python, are told together with the rest."""
    write("notes.txt", "")
    write("bad.py", "1 / 0")
    assert problems("gone.py", "notes.txt", "bad.py") == [
        ("bad.py", 1, "file-raises"),
        ("gone.py", 0, "no-such-file"),
        ("notes.txt", 0, "not-python"),
    ]


def test_ids_are_unique_across_files_and_within_one() -> None:
    """The same id twice would mix run folders."""
    write("a.py", good("same"))
    write("b.py", good("same"))
    write("c.py", good("twin", name="A") + good("twin", name="B") + "\nEXPERIMENTS = [A, B]\n")
    assert problems("a.py", "b.py", "c.py") == [("b.py", 5, "id-twice"), ("c.py", 15, "id-twice")]


def test_loading_leaves_nothing_behind() -> None:
    """Neither sys.modules nor sys.path nor the folder shows that a file was read, not even one that raised."""
    write("a.py", "import sys\nsys.path.insert(0, '/tmp')\n" + good("a"))
    write("b.py", "import sys\nsys.path.append('/tmp')\nraise RuntimeError\n")
    load(["a.py"])
    modules, paths, files = set(sys.modules), list(sys.path), sorted(Path().rglob("*"))
    load(["a.py"])
    assert problems("b.py") == [("b.py", 3, "file-raises")]
    assert set(sys.modules) == modules
    assert sys.path == paths
    assert sorted(Path().rglob("*")) == files


def test_a_file_may_declare_dataclasses() -> None:
    """A class in the file finds its module while the file runs, as dataclasses need it."""
    prefix = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
    body = "@dataclass(frozen=True)\nclass Mine:\n    kind: ClassVar[str] = 'mine'\n    size: int = 3\n"
    write("own.py", prefix + body + good("own"))
    (loaded,) = load(["own.py"])
    assert loaded.experiment.id == "own"
