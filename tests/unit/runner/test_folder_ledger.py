"""The run folder and the heal ledger."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from chaos.backends.ownership import OWNER_FILE
from chaos.errors import EnvironmentUnavailable
from chaos.runner.folder import STACK_FILE, RunFolder
from chaos.runner.ledger import Ledger


def test_a_folder_is_private_and_latest_points_to_it(tmp_path: Path) -> None:
    """Mode 0700, the sub-folders are there, and `latest` leads here by a relative link."""
    folder = RunFolder(tmp_path, "sample", 3)
    folder.prepare()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert folder.path.name.endswith("-s3")
    assert (tmp_path / "latest").resolve() == folder.path
    assert not (tmp_path / "latest").readlink().is_absolute()


def test_two_runs_at_the_same_moment_differ(tmp_path: Path) -> None:
    """Folders made in a burst are all different."""
    paths = {RunFolder(tmp_path, "sample", 1).path for _ in range(20)}
    assert len(paths) == 20


@pytest.mark.parametrize("name", ["runs", "runs/sample"])
def test_a_place_that_cannot_be_written_is_an_environment_error(tmp_path: Path, name: str) -> None:
    """A file where a folder should be is told with the way out, and stays as it was."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("not a folder")
    with pytest.raises(EnvironmentUnavailable, match="--out"):
        RunFolder(tmp_path / "runs", "sample", 1)
    assert (tmp_path / name).read_text() == "not a folder"


def test_a_link_to_nowhere_is_an_environment_error(tmp_path: Path) -> None:
    """The kernel says that it exists, and nothing can be made in it."""
    (tmp_path / "runs").symlink_to(tmp_path / "nowhere")
    with pytest.raises(EnvironmentUnavailable, match="--out"):
        RunFolder(tmp_path / "runs", "sample", 1)


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    """No draft stays beside the file, and what is read is the last value."""
    folder = RunFolder(tmp_path, "sample", 1)
    folder.write_json("run.json", {"a": 1})
    folder.write_json("run.json", {"a": 2})
    assert json.loads((folder.path / "run.json").read_text()) == {"a": 2}
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


def test_what_is_needed_to_give_a_stack_back_outlives_the_live_data(tmp_path: Path) -> None:
    """As long as a borrowed stack is not given back, its note and the owner's mark stay, and nothing else."""
    folder = RunFolder(tmp_path, "sample", 1)
    folder.prepare()
    (folder.data / "store").write_text("x")
    folder.lend({"container": "1"})
    assert folder.remove_live()
    assert sorted(entry.name for entry in folder.live.iterdir()) == [OWNER_FILE, STACK_FILE]
    folder.give_back()
    assert folder.remove_live()
    assert not folder.live.exists()


def test_the_ledger_keeps_the_order(tmp_path: Path) -> None:
    """Intended, applied and healed stand one after the other with rising times."""
    ticks = iter(range(0, 1000, 10))
    ledger = Ledger(tmp_path / "faults.jsonl", clock_ns=lambda: next(ticks))
    ledger.write("f0", "intended", {"kind": "x"})
    ledger.write("f0", "applied", {"evidence": {}})
    ledger.write("f0", "healed", {"landed": True})
    ledger.close()
    ledger.close()
    lines = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines] == ["intended", "applied", "healed"]
    assert [line["time_ns"] for line in lines] == [10, 20, 30]
