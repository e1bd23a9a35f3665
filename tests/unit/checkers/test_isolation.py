"""The checks of isolation against hand-written anomalies, and against an oracle that tries every order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random

import pytest

from chaos.checkers import Serializable, SnapshotIsolated, StrictSerializable
from chaos.checkers.model import Context
from chaos.history.sketch import Sketch
from chaos.history.view import History

CONTEXT = Context(stores=("sqlite", "redis"))
LEVELS = (SnapshotIsolated(), Serializable(), StrictSerializable())


@dataclass(frozen=True)
class Txn:
    """A transaction on paper: what it read of each key, and which keys it appended to."""

    token: str
    reads: Mapping[str, Sequence[str]]
    appends: Sequence[str]


def written(txns: Sequence[Txn], order: Mapping[str, Sequence[str]], *, at_once: bool = True) -> History:
    """Return the history of these transactions: all sent at once, or one after the other."""
    sketch = Sketch()
    if at_once:
        for number, txn in enumerate(txns):
            sketch.invoke(number, txn.token)
    for number, txn in enumerate(txns):
        if not at_once:
            sketch.invoke(number, txn.token)
        sketch.ok(number, txn.token, reads=[("sqlite", key, writers) for key, writers in txn.reads.items()])
    marks = {txn.token: f"m-{txn.token}" for txn in txns}
    for occasion in ("final", "reopened"):
        sketch.read_back(occasion, order=order, sqlite=marks, redis=marks)
    return sketch.history()


def verdicts(history: History) -> tuple[str, ...]:
    """Return the verdict of each level, weakest first."""
    return tuple(level.judge(history, CONTEXT).valid for level in LEVELS)


def anomalies(history: History) -> set[str]:
    """Return what the strictest level found."""
    return set(StrictSerializable().judge(history, CONTEXT).details["anomalies"])


def test_write_skew_is_what_snapshot_isolation_allows() -> None:
    """Each reads what the other writes and sees it empty: no order, but one snapshot for both."""
    history = written([Txn("a", {"x": []}, ["y"]), Txn("b", {"y": []}, ["x"])], {"x": ["b"], "y": ["a"]})
    assert verdicts(history) == ("valid", "invalid", "invalid")
    assert anomalies(history) == {"G2"}


def test_lost_update_is_forbidden_by_all() -> None:
    """Both read nothing of x and both append to it."""
    history = written([Txn("a", {"x": []}, ["x"]), Txn("b", {"x": []}, ["x"])], {"x": ["a", "b"]})
    assert verdicts(history) == ("invalid", "invalid", "invalid")
    assert anomalies(history) == {"G-single"}


def test_read_skew_is_forbidden_by_all() -> None:
    """One read sees the other's write and the other read does not."""
    history = written(
        [Txn("a", {}, ["x", "y"]), Txn("b", {"x": ["a"], "y": []}, ["z"])], {"x": ["a"], "y": ["a"], "z": ["b"]}
    )
    assert verdicts(history) == ("invalid", "invalid", "invalid")
    assert anomalies(history) == {"G-single"}


def test_a_stale_read_breaks_only_real_time() -> None:
    """The second transaction begins after the first was acknowledged and does not see it."""
    txns = [Txn("a", {}, ["x"]), Txn("b", {"x": []}, ["y"])]
    order = {"x": ["a"], "y": ["b"]}
    assert verdicts(written(txns, order, at_once=False)) == ("valid", "valid", "invalid")
    assert anomalies(written(txns, order, at_once=False)) == {"G-single-realtime"}
    assert verdicts(written(txns, order)) == ("valid", "valid", "valid")


def test_circular_reads_of_each_others_writes() -> None:
    """Each read what the other wrote."""
    history = written([Txn("a", {"y": ["b"]}, ["x"]), Txn("b", {"x": ["a"]}, ["y"])], {"x": ["a"], "y": ["b"]})
    assert anomalies(history) == {"G1c"}


def test_writes_in_two_orders() -> None:
    """Two lists have the same two writers in different orders."""
    history = written([Txn("a", {"z": []}, ["x", "y"]), Txn("b", {}, ["x", "y"])], {"x": ["a", "b"], "y": ["b", "a"]})
    assert anomalies(history) == {"G0"}


def test_a_read_of_an_aborted_transaction() -> None:
    """What a transaction wrote that was reported aborted must be seen by nobody."""
    sketch = Sketch().invoke(0, "a").fail(0, "a").invoke(1, "b").ok(1, "b", reads=[("redis", "x", ["a"])])
    for occasion in ("final", "reopened"):
        sketch.read_back(occasion, order={"y": ["b"]}, sqlite={"b": "m-b"}, redis={"b": "m-b"})
    assert anomalies(sketch.history()) == {"G1a"}


def test_a_read_of_what_is_gone() -> None:
    """A write that somebody saw and that is in no store any more was lost."""
    history = written([Txn("a", {}, ["x"]), Txn("b", {"x": ["a"]}, ["y"])], {"y": ["b"]})
    assert anomalies(history) == {"lost-write"}


def test_a_read_in_another_order() -> None:
    """A list was seen in an order in which it was never written."""
    txns = [Txn("a", {}, ["x"]), Txn("b", {}, ["x"]), Txn("c", {"x": ["b", "a"]}, ["y"])]
    assert "incompatible-order" in anomalies(written(txns, {"x": ["a", "b"], "y": ["c"]}))


def test_two_stores_with_two_orders() -> None:
    """Each store tells another order of the same writes."""
    sketch = Sketch().invoke(0, "a").invoke(1, "b").ok(0, "a", reads=[("redis", "y", [])]).ok(1, "b")
    images = {
        store: {"marks": {"a": ["m-a"], "b": ["m-b"]}, "order": {"x": order}}
        for store, order in (("sqlite", ["a", "b"]), ("redis", ["b", "a"]))
    }
    for occasion in ("final", "reopened"):
        sketch.add("invoke", "read_back", value={"occasion": occasion})
        sketch.add("ok", "read_back", value={"occasion": occasion, "stores": images})
    assert "two orders" in anomalies(sketch.history())


def test_nothing_told_is_unknown() -> None:
    """A workload that tells no reads leaves the question open."""
    assert verdicts(written([Txn("a", {}, ["x"])], {"x": ["a"]})) == ("unknown", "unknown", "unknown")


# The oracle knows no edges and no cycles: it runs the transactions in every order there is.


def drawn(rng: Random) -> tuple[list[Txn], dict[str, list[str]]]:
    """Draw a few transactions over three keys, reads that are beginnings of the order of writes, and that order."""
    tokens = ["a", "b", "c", "d"][: rng.randint(2, 4)]
    appends = {token: rng.sample("xyz", rng.randint(0, 2)) for token in tokens}
    order = {key: [token for token in rng.sample(tokens, len(tokens)) if key in appends[token]] for key in "xyz"}
    txns = []
    for token in tokens:
        reads = {}
        for key in rng.sample("xyz", rng.randint(1, 2)):
            # A transaction cannot have read what came after its own write.
            end = order[key].index(token) if token in order[key] else len(order[key])
            reads[key] = order[key][: rng.randint(0, end)]
        txns.append(Txn(token, reads, appends[token]))
    return txns, order


def runs_alone(txns: Sequence[Txn], order: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether these transactions, one after the other as given, read and leave what they did."""
    state: dict[str, list[str]] = {key: [] for key in order}
    for txn in txns:
        if any(state[key] != list(writers) for key, writers in txn.reads.items()):
            return False
        for key in txn.appends:
            state[key].append(txn.token)
    return state == {key: list(tokens) for key, tokens in order.items()}


def is_serializable(txns: Sequence[Txn], order: Mapping[str, Sequence[str]], *, in_sequence: bool = False) -> bool:
    """Try every order, or only the one in which they were sent."""
    return any(runs_alone(one, order) for one in ([tuple(txns)] if in_sequence else permutations(txns)))


def schedules(count: int) -> Iterator[list[tuple[int, bool]]]:
    """Yield every order of starts and commits: pairs of a transaction's number and whether it is the commit."""

    def grow(
        done: list[tuple[int, bool]], open_: frozenset[int], left: frozenset[int]
    ) -> Iterator[list[tuple[int, bool]]]:
        if not open_ and not left:
            yield done
        for number in sorted(left):
            yield from grow([*done, (number, False)], open_ | {number}, left - {number})
        for number in sorted(open_):
            yield from grow([*done, (number, True)], open_ - {number}, left)

    return grow([], frozenset(), frozenset(range(count)))


def is_snapshot_isolated(txns: Sequence[Txn], order: Mapping[str, Sequence[str]]) -> bool:
    """Try every order of starts and commits: reads are of the start, and the first committer of a key wins."""
    return any(_under_snapshots(txns, order, schedule) for schedule in schedules(len(txns)))


def _under_snapshots(txns: Sequence[Txn], order: Mapping[str, Sequence[str]], schedule: list[tuple[int, bool]]) -> bool:
    state: dict[str, list[str]] = {key: [] for key in order}
    at_start: dict[int, dict[str, int]] = {}
    for number, is_commit in schedule:
        txn = txns[number]
        if not is_commit:
            at_start[number] = {key: len(tokens) for key, tokens in state.items()}
            if any(state[key] != list(writers) for key, writers in txn.reads.items()):
                return False
            continue
        if any(len(state[key]) != at_start[number][key] for key in txn.appends):
            return False
        for key in txn.appends:
            state[key].append(txn.token)
    return state == {key: list(tokens) for key, tokens in order.items()}


@pytest.mark.parametrize("block", range(4))
def test_the_oracle_agrees(block: int) -> None:
    """On small drawn histories the checks say what trying every order says, and both verdicts come up often."""
    seen = {level.name: [0, 0] for level in LEVELS}
    for seed in range(60):
        txns, order = drawn(Random(block * 1000 + seed))
        truths = (
            (written(txns, order), SnapshotIsolated(), is_snapshot_isolated(txns, order)),
            (written(txns, order), Serializable(), is_serializable(txns, order)),
            (written(txns, order, at_once=False), StrictSerializable(), is_serializable(txns, order, in_sequence=True)),
        )
        for history, level, truth in truths:
            verdict = level.judge(history, CONTEXT)
            assert (verdict.valid == "valid") == truth, f"{txns} {order}: {verdict}"
            seen[level.name][truth] += 1
    assert all(min(counts) >= 3 for counts in seen.values()), seen
