"""The disk after a loss of power, from logs written by hand."""

from __future__ import annotations

import os
from random import Random

import pytest

from chaos.crashpoints.content import Content
from chaos.crashpoints.outage import Loss, rebuild
from chaos.crashpoints.recording import NoVerdict
from chaos.crashpoints.snapshot import Tree
from chaos.faults.disk.oplog import LIED, Kind, Operation

START = Tree(folders=frozenset({"sqlite", "redis"}))
CREATE = os.O_CREAT | os.O_RDWR


def _log(*steps: tuple[Kind, dict[str, object]]) -> list[Operation]:
    """Number operations from 1 on."""
    return [Operation(kind, clock, **fields) for clock, (kind, fields) in enumerate(steps, 1)]  # type: ignore[arg-type]


def _file(name: str, handle: int, *payloads: bytes) -> list[tuple[Kind, dict[str, object]]]:
    """Open a new file as operation number `handle` and append."""
    steps: list[tuple[Kind, dict[str, object]]] = [(Kind.OPEN, {"name": name, "flags": CREATE})]
    offset = 0
    for payload in payloads:
        steps.append((Kind.WRITE, {"name": name, "handle": handle, "offset": offset, "payload": payload}))
        offset += len(payload)
    return steps


LOG = _log(
    *_file("sqlite/a", 1, b"kept"),
    (Kind.SYNC, {"name": "sqlite/a", "handle": 1}),
    (Kind.OPEN, {"name": "sqlite/"}),
    (Kind.SYNC, {"name": "sqlite/", "handle": 4}),
    (Kind.WRITE, {"name": "sqlite/a", "handle": 1, "offset": 4, "payload": b"+lost"}),
    *_file("redis/b", 7, b"synced, but not by name"),
    (Kind.SYNC, {"name": "redis/b", "handle": 7}),
    *_file("redis/c", 10, b"neither"),
)
FOUND = {"sqlite/a": b"kept+lost", "redis/b": b"synced, but not by name", "redis/c": b"neither"}


def _tree(files: dict[str, bytes]) -> Tree:
    return Tree({path: Content.of(data) for path, data in files.items()}, START.folders)


def _plain(tree: Tree) -> dict[str, bytes]:
    return {path: bytes(content.data) for path, content in tree.files.items()}


@pytest.mark.parametrize(
    ("policy", "left", "sqlite", "redis"),
    [
        ("posix", {"sqlite/a": b"kept"}, Loss(6, 5, 0), Loss(5, 7, 2)),
        ("ordered", {"sqlite/a": b"kept", "redis/b": FOUND["redis/b"]}, Loss(6, 5, 0), Loss(5, 7, 1)),
        ("applied", FOUND, Loss(6, 0, 0), Loss(5, 0, 0)),
    ],
)
def test_what_each_policy_leaves(policy: str, left: dict[str, bytes], sqlite: Loss, redis: Loss) -> None:
    """Bytes need a sync of their file; names one of their folder, or of any file after them, or nothing at all."""
    outage = rebuild(START, LOG, _tree(FOUND), policy, Random(0))
    assert _plain(outage.tree) == left
    assert outage.tree.folders == START.folders
    assert outage.losses == {"sqlite": sqlite, "redis": redis}


def test_random_is_drawn_from_the_stream_alone() -> None:
    """The same stream gives the same disk, others give others, and what was synced is in all of them."""
    drawn = [rebuild(START, LOG, _tree(FOUND), "random", Random(seed)) for seed in range(40)]
    again = [rebuild(START, LOG, _tree(FOUND), "random", Random(seed)) for seed in range(40)]
    assert [one.tree.digest for one in drawn] == [one.tree.digest for one in again]
    assert len({one.tree.digest for one in drawn}) > 4
    assert all(_plain(one.tree)["sqlite/a"].startswith(b"kept") for one in drawn)
    assert {one.losses["redis"].names_lost for one in drawn} == {0, 1, 2}


def test_a_sync_that_lied_keeps_nothing() -> None:
    """What the program was told does not make bytes durable."""
    log = [
        Operation(one.kind, one.clock, flags=LIED, name=one.name, handle=one.handle) if one.kind is Kind.SYNC else one
        for one in LOG
    ]
    assert _plain(rebuild(START, log, _tree(FOUND), "ordered", Random(0)).tree) == {}


def test_a_second_loss_starts_from_the_first_disk() -> None:
    """What a first loss left is on the disk, whatever becomes of it later."""
    first = rebuild(START, LOG, _tree(FOUND), "posix", Random(0)).tree
    log = _log(
        (Kind.OPEN, {"name": "sqlite/a", "flags": os.O_RDWR}),
        (Kind.WRITE, {"name": "sqlite/a", "handle": 1, "offset": 4, "payload": b"!"}),
    )
    second = rebuild(first, log, _tree({"sqlite/a": b"kept!"}), "posix", Random(0))
    assert _plain(second.tree) == {"sqlite/a": b"kept"}
    assert second.losses["sqlite"] == Loss(2, 1, 0)


def test_a_taint_refuses() -> None:
    """What the log cannot tell is told instead of guessed."""
    log = [*LOG, Operation(Kind.TAINT, 99, name="redis/b", other="a map that can be written")]
    with pytest.raises(NoVerdict, match="redis/b: a map that can be written"):
        rebuild(START, log, _tree(FOUND), "posix", Random(0))


def test_sqlites_index_is_no_part_of_it() -> None:
    """It is a shared map that SQLite makes anew: neither its taint nor its bytes count."""
    log = [*LOG, Operation(Kind.TAINT, 99, name="sqlite/main.db-shm", other="a map that can be written")]
    outage = rebuild(START, log, _tree({**FOUND, "sqlite/main.db-shm": b"map"}), "applied", Random(0))
    assert _plain(outage.tree) == FOUND


def test_a_gap_refuses() -> None:
    """A write through a descriptor that nothing opened means that something went past the shim."""
    log = [*LOG, Operation(Kind.WRITE, 99, name="redis/x", handle=98, offset=0, payload=b"?")]
    with pytest.raises(NoVerdict, match="has a gap"):
        rebuild(START, log, _tree(FOUND), "posix", Random(0))


def test_a_folder_that_the_log_does_not_explain_refuses() -> None:
    """Bytes that went unseen would be lost or kept by accident."""
    with pytest.raises(NoVerdict, match="redis/c differ"):
        rebuild(START, LOG, _tree({**FOUND, "redis/c": b"neither here"}), "posix", Random(0))


def test_a_call_that_nobody_came_back_from_counts_as_never_made() -> None:
    """The folder may show it, in one file or in two names, and no more than that."""
    torn = {**FOUND, "redis/c": b"neither, nor"}
    assert _plain(rebuild(START, LOG, _tree(torn), "applied", Random(0), in_flight=True).tree) == FOUND
    more = {**torn, "redis/d": b"", "redis/e": b""}
    with pytest.raises(NoVerdict):
        rebuild(START, LOG, _tree(more), "applied", Random(0), in_flight=True)


def test_an_unknown_policy_is_no_policy() -> None:
    """It is refused at the value already; here it cannot be taken for one that loses nothing."""
    with pytest.raises(ValueError, match="btrfs"):
        rebuild(START, LOG, _tree(FOUND), "btrfs", Random(0))
