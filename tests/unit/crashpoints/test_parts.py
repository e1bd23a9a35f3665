from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from chaos.crashpoints import findings, ledger, recording, targets
from chaos.crashpoints.bench import Result
from chaos.crashpoints.content import Content
from chaos.crashpoints.judge import Judgement, Observation, Outcome
from chaos.crashpoints.pool import Pool
from chaos.crashpoints.recording import NoVerdict
from chaos.crashpoints.snapshot import Tree
from chaos.crashpoints.targets import entries
from chaos.errors import HarnessError, PlanError
from chaos.faults.disk.oplog import LIED, Kind, Operation

SQLITE = targets.make("sqlite")


def _result(recipe: str, outcome: Outcome = Outcome.LOST, detail: str = "without 1") -> Result:
    judgement = Judgement(outcome=outcome, detail=detail)
    return Result(digest=recipe.encode(), recipe=recipe, judgement=judgement, seen=Observation())


def test_a_target_is_made_with_its_options():
    """Options that are left out have their first value, and the spelling is read back."""
    target = targets.make("sqlite:journal=delete,transactions=3")
    assert target.options == {"journal": "delete", "synchronous": "full", "transactions": "3"}
    assert targets.make(target.spelled).options == target.options


@pytest.mark.parametrize(
    ("text", "count"), [("oracle", 1), ("sqlite:journal=x,synchronous=y", 2), ("sqlite:transactions=0,a=b", 2)]
)
def test_every_mistake_in_a_target_is_told(text: str, count: int):
    """All bad options are told at once."""
    with pytest.raises(PlanError) as caught:
        targets.make(text)
    assert len(caught.value.problems) == count


def test_rows_are_sorted_into_whole_and_partial():
    """A missing, a doubled and a changed row each make a transaction partial; a strange number is a problem."""
    rows = [*entries.rows(1), *entries.rows(2)[:-1], *entries.rows(4), entries.rows(4)[0], (6, 0, "x"), (None, 0, "x")]
    seen = entries.sorted_out(rows, 5)
    assert seen.found == ("0", "1")
    assert seen.partial == {
        "2": "2 of 3 rows",
        "4": "3 of 3 rows, and 1 that are wrong or doubled",
        "6": "0 of 3 rows, and 1 that are wrong or doubled",
    }
    assert seen.problems == ("a row of transaction None",)
    assert entries.next_number(seen) == 2


def test_a_ledger_is_read_back_without_its_torn_line(tmp_path: Path):
    """What was noted is there; a line that a kill left half-written is dropped, and appending goes on behind it."""
    header = ledger.Header(target="sqlite", seed=1, draws=2)
    book = ledger.Ledger(tmp_path / ledger.NAME)
    book.begin(header)
    book.note([_result("1:P")])
    book.close()
    with (tmp_path / ledger.NAME).open("ab") as file:
        file.write(b'{"digest": "tor')
    assert ledger.read(tmp_path) == (header, [_result("1:P")])
    book = ledger.Ledger(tmp_path / ledger.NAME)
    book.note([_result("2:P")])
    book.close()
    assert [one.recipe for one in ledger.read(tmp_path)[1]] == ["1:P", "2:P"]


def test_other_folders_are_no_exploration(tmp_path: Path):
    """A folder without a ledger is a wrong argument."""
    with pytest.raises(PlanError, match="not-a-run"):
        ledger.read(tmp_path)


def test_findings_are_gathered_by_what_they_show():
    """One finding per outcome and kind of crash, gravest first, with the earliest of the mildest states as example."""
    found = findings.gather(
        [
            _result("9:Wr:posix:1"),
            _result("7:Ws:posix", detail="without 1, 2"),
            _result("8:Ws:ext4"),
            _result("5:P", Outcome.OK),
            _result("3:P", Outcome.CRASHES, "SIGSEGV"),
            _result("3:P>2:Ws:posix"),
        ]
    )
    assert [(one.outcome, one.crash, one.state, one.states) for one in found] == [
        (Outcome.CRASHES, "process crash", "3:P", 1),
        (Outcome.LOST, "power loss", "7:Ws:posix", 3),
        (Outcome.LOST, "power loss, and another during recovery", "3:P>2:Ws:posix", 1),
    ]


def test_taints_refuse_a_verdict():
    """An operation outside of the model is named, unless it is about a file that no state holds."""
    taint = Operation(Kind.TAINT, 1, name="a-shm", other="a writable shared map")
    assert recording.relevant([taint, Operation(Kind.CLOSE, 2)], ("*-shm",)) == []
    with pytest.raises(NoVerdict, match="a-shm: a writable shared map"):
        recording.relevant([taint], ())


def test_a_recording_that_does_not_explain_its_folder_is_refused(tmp_path: Path):
    """Replaying must give the folder byte for byte."""
    (tmp_path / "a").write_bytes(b"seen and unseen")
    log = [
        Operation(Kind.OPEN, 1, name="a", flags=os.O_CREAT | os.O_RDWR),
        Operation(Kind.WRITE, 2, handle=1, name="a", offset=0, payload=b"seen"),
    ]
    with pytest.raises(NoVerdict, match="a differ"):
        recording.trusted(Tree(), log, tmp_path, SQLITE)
    with pytest.raises(NoVerdict, match="gap"):
        recording.trusted(Tree(), log[1:], tmp_path, SQLITE)
    (tmp_path / "a").write_bytes(b"seen")
    assert recording.trusted(Tree(), log, tmp_path, SQLITE).start == Tree()
    assert recording.trusted(Tree({"b-shm": Content.of(b"")}), log, tmp_path, SQLITE).operations == log


def test_ignored_syncs_are_lies():
    """The control changes syncs and nothing else."""
    log = [Operation(Kind.SYNC, 1, handle=1), Operation(Kind.UNLINK, 2, name="a")]
    changed = recording.without_syncs(log)
    assert [one.flags for one in changed] == [LIED, 0]


def test_a_pool_answers_and_hands_out_no_more_when_told():
    """Every request is answered, in any order; once `until` holds no further one is begun."""
    with Pool(2, lambda _: lambda request: request * 2) as pool:
        assert sorted(pool.run([1, 2, 3])) == [(1, 2), (2, 4), (3, 6)]
        assert list(pool.run([1, 2, 3], until=lambda: True)) == []


def test_a_worker_that_dies_or_fails_is_a_failure_of_the_harness():
    """Neither is taken for an answer."""

    def _fail(request: str) -> None:
        if request == "die":
            os._exit(5)
        raise ValueError(request)

    with Pool(1, lambda _: _fail) as pool, pytest.raises(HarnessError, match="ended with status 5"):
        list(pool.run(["die"]))
    with Pool(1, lambda _: _fail) as pool, pytest.raises(HarnessError, match="ValueError: oops"):
        list(pool.run(["oops"]))


def test_results_survive_being_written():
    """A result with everything in it is the same after the ledger's encoding."""
    seen = Observation(
        found=("1",), partial={"2": "x"}, counter=2, problems=("p",), judged=Judgement(outcome=Outcome.OK)
    )
    result = Result(digest=b"\0\xff", recipe="1:P", judgement=Judgement(outcome=Outcome.LOST, detail="d"), seen=seen)
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result
