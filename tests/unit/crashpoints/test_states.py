from __future__ import annotations

import os
import tempfile
from pathlib import Path

import crash_states_support as brute_force
import pytest
from hypothesis import HealthCheck, assume, given, settings

from chaos.crashpoints import recipes, snapshot, states
from chaos.crashpoints.content import Content
from chaos.crashpoints.model import Disk, LogGap
from chaos.crashpoints.names import View
from chaos.crashpoints.snapshot import Tree
from chaos.faults.disk.oplog import DROPPED, LIED, Kind, Operation

START = Tree(folders=frozenset({"d"}))
UNHURRIED = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _disk(log: list[Operation], start: Tree = START) -> Disk:
    disk = Disk(start)
    for index, operation in enumerate(log):
        disk.apply(index, operation)
    return disk


def _plain(tree: Tree) -> dict[str, bytes]:
    return {path: bytes(content.data) for path, content in tree.files.items()}


def _logged(*steps: tuple) -> list[Operation]:
    """Number operations from 1 on."""
    return [Operation(kind, clock, **fields) for clock, (kind, fields) in enumerate(steps, 1)]


@given(brute_force.STEPS)
@UNHURRIED
def test_a_process_crash_leaves_what_plain_execution_leaves(steps):
    """P after the whole log equals the folder that the same calls really make."""
    log = brute_force.program(steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "d").mkdir()
        brute_force.execute(log, folder)
        assert snapshot.differences(_disk(log).now(), snapshot.read(folder)) == []


@given(brute_force.STEPS)
@UNHURRIED
def test_every_generated_state_is_lawful(steps):
    """No state is generated that the independent reading does not allow, at any boundary and under either view."""
    log = brute_force.program(steps)
    assume(len(brute_force.atoms(log)) <= 9)
    disk = Disk(START)
    for boundary in range(1, len(log) + 1):
        disk.apply(boundary - 1, log[boundary - 1])
        allowed = {view: list(brute_force.lawful(log[:boundary], view)) for view in View}
        for recipe in states.recipes(disk, boundary, seed=1, draws=6):
            if recipe.is_power_loss:
                tree = _plain(states.build(disk, recipe, seed=1))
                assert tree in allowed[recipe.view or View.EXT4], str(recipe)


@given(brute_force.STEPS)
@UNHURRIED
def test_ws_is_the_smallest_lawful_state(steps):
    """Ws lacks all that no sync covers, and nothing else."""
    log = brute_force.program(steps)
    disk = _disk(log)
    for view in View:
        certain = [atom for atom in brute_force.atoms(log) if brute_force.certain(atom, log, view)]
        assert _plain(disk.synced(view)) == brute_force.replay(certain)


@given(brute_force.STEPS)
@UNHURRIED
def test_a_state_is_made_again_from_its_word(steps):
    """Recipes survive being written and read, and what they lack, written out, is lawful and gives the same state."""
    log = brute_force.program(steps)
    disk = _disk(log)
    for recipe in states.recipes(disk, len(log), seed=5, draws=4):
        assert recipes.parse(str(recipe)) == (recipe,)
        tree = states.build(disk, recipe, seed=5)
        if recipe.is_power_loss:
            view = recipe.view or View.EXT4
            lost = states.missing(disk, recipe, seed=5)
            assert states.legal(disk, view, lost), str(recipe)
            spelled = recipes.explicit(recipe.boundary, view, lost)
            assert recipes.parse(str(spelled)) == (spelled,)
            assert states.build(disk, spelled, seed=5).digest == tree.digest


def test_draws_reach_every_lawful_state_of_a_small_log():
    """Two unsynced writes of two sectors each and a new name: enough draws find all their combinations."""
    log = _logged(
        (Kind.OPEN, {"name": "a", "flags": os.O_CREAT | os.O_RDWR}),
        (Kind.WRITE, {"handle": 1, "name": "a", "offset": 0, "payload": b"x" * 1024}),
        (Kind.WRITE, {"handle": 1, "name": "a", "offset": 512, "payload": b"y" * 1024}),
    )
    disk = _disk(log)
    found = {
        states.build(disk, recipe, seed=3).digest
        for recipe in states.recipes(disk, 3, seed=3, draws=600)
        if recipe.kind == "Wr"
    }
    allowed = {str(sorted(state.items())) for state in brute_force.lawful(log, "posix")}
    assert len(found) == len(allowed)


def test_pages_cut_a_write_for_a_process_crash():
    """Pt keeps the beginning of the last write up to a page of the file, over what was there before."""
    start = Tree({"a": Content.of(b"o" * 9000)})
    log = _logged(
        (Kind.OPEN, {"name": "a", "flags": os.O_RDWR}),
        (Kind.WRITE, {"handle": 1, "name": "a", "offset": 4000, "payload": b"n" * 6000}),
    )
    disk = _disk(log, start)
    cuts = [recipe for recipe in states.recipes(disk, 2, seed=0, draws=0) if recipe.kind == "Pt"]
    assert [recipe.number for recipe in cuts] == [96, 4192]
    assert _plain(states.build(disk, cuts[0], seed=0))["a"] == b"o" * 4000 + b"n" * 96 + b"o" * 4904
    assert _plain(states.build(disk, cuts[1], seed=0))["a"] == b"o" * 4000 + b"n" * 4192 + b"o" * 808


def test_a_write_beyond_the_end_is_cut_without_leaving_a_length():
    """A cut append leaves the file as long as what was taken."""
    log = _logged(
        (Kind.OPEN, {"name": "a", "flags": os.O_CREAT | os.O_RDWR}),
        (Kind.WRITE, {"handle": 1, "name": "a", "offset": 0, "payload": b"n" * 5000}),
    )
    assert _plain(_disk(log).cut(4096)) == {"a": b"n" * 4096}


def test_a_handle_stays_with_its_file():
    """Bytes written through a descriptor follow the file through rename and unlink, not its old name."""
    create = os.O_CREAT | os.O_RDWR
    log = _logged(
        (Kind.OPEN, {"name": "a", "flags": create}),
        (Kind.RENAME, {"name": "a", "other": "b"}),
        (Kind.OPEN, {"name": "a", "flags": create}),
        (Kind.WRITE, {"handle": 1, "name": "a", "offset": 0, "payload": b"old"}),
        (Kind.WRITE, {"handle": 3, "name": "a", "offset": 0, "payload": b"new"}),
        (Kind.UNLINK, {"name": "b"}),
        (Kind.WRITE, {"handle": 1, "name": "a", "offset": 0, "payload": b"into the void"}),
    )
    assert _plain(_disk(log[:5]).now()) == {"a": b"new", "b": b"old"}
    assert _plain(_disk(log).now()) == {"a": b"new"}


def test_lies_and_failures_make_nothing_durable():
    """A sync that lied leaves data pending; one that failed and dropped its pages loses them even for later syncs."""
    opened = (Kind.OPEN, {"name": "a", "flags": os.O_CREAT | os.O_RDWR})
    first = (Kind.WRITE, {"handle": 1, "name": "a", "offset": 0, "payload": b"1"})
    second = (Kind.WRITE, {"handle": 1, "name": "a", "offset": 1, "payload": b"2"})
    root = [(Kind.OPEN, {"name": "/"}), (Kind.SYNC, {"name": "/", "handle": 2})]
    sync = (Kind.SYNC, {"handle": 1, "name": "a"})
    lied = _logged(opened, *root, first, (Kind.SYNC, {"handle": 1, "name": "a", "flags": LIED}))
    assert _plain(_disk(lied).synced(View.POSIX)) == {"a": b""}
    failed = (Kind.SYNC_FAILED, {"handle": 1, "name": "a", "flags": DROPPED})
    dropped = _disk(_logged(opened, *root, first, failed, second, sync))
    assert _plain(dropped.now()) == {"a": b"12"}
    assert _plain(dropped.synced(View.POSIX)) == {"a": b"\x002"}
    kept = _disk(_logged(opened, *root, first, (Kind.SYNC_FAILED, {"handle": 1, "name": "a"}), second, sync))
    assert _plain(kept.synced(View.POSIX)) == {"a": b"12"}
    lost = _disk(_logged(opened, (Kind.WRITE, {**first[1], "flags": LIED})))
    assert _plain(lost.now()) == {"a": b""}


@pytest.mark.parametrize(
    "log",
    [
        _logged((Kind.WRITE, {"handle": 9, "name": "a", "offset": 0, "payload": b"x"})),
        _logged((Kind.OPEN, {"name": "a", "flags": os.O_RDWR})),
        _logged((Kind.UNLINK, {"name": "a"})),
        _logged((Kind.RENAME, {"name": "a", "other": "b"})),
        _logged((Kind.OPEN, {"name": "x/a", "flags": os.O_CREAT})),
    ],
    ids=["handle", "open", "unlink", "rename", "folder"],
)
def test_what_the_log_cannot_explain_is_a_gap(log):
    """An operation on something that no operation made says that the recording has a hole."""
    with pytest.raises(LogGap, match="operation 0"):
        _disk(log)


def test_a_rename_is_durable_with_either_folder():
    """After a sync of the folder it went to, a renamed file is neither lost nor under both names."""
    start = Tree({"a": Content.of(b"x")}, frozenset({"d"}))
    log = _logged(
        (Kind.RENAME, {"name": "a", "other": "d/a"}),
        (Kind.OPEN, {"name": "d/"}),
        (Kind.SYNC, {"name": "d/", "handle": 2}),
    )
    assert _plain(_disk(log, start).synced(View.POSIX)) == {"d/a": b"x"}
    assert _plain(_disk(log[:2], start).synced(View.POSIX)) == {"a": b"x"}


@pytest.mark.parametrize("text", ["", "x", "1", "1:Q", "1:P:posix", "1:Ws:ntfs", "1:Wr:posix:x", "1:W:posix"])
def test_other_words_are_refused(text):
    """A word that names no state says what one looks like."""
    with pytest.raises(ValueError, match="must look like"):
        recipes.parse(text)


def test_trees_are_written_and_read_back(tmp_path: Path):
    """A tree that was written out and read in again is the same, links and empty folders included."""
    tree = Tree({"a": Content.of(b"1"), "d/e/b": Content.of(b"")}, frozenset({"d", "d/e", "f"}), {"l": "a"})
    snapshot.write(tree, tmp_path)
    assert snapshot.read(tmp_path).digest == tree.digest
    snapshot.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
