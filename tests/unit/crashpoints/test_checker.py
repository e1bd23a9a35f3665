from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests_support import gone, wait_until

from chaos.crashpoints.checker import Checker
from chaos.crashpoints.content import Content
from chaos.crashpoints.judge import Observation
from chaos.crashpoints.promises import Promise
from chaos.crashpoints.scratch import scratch
from chaos.crashpoints.snapshot import Tree
from chaos.crashpoints.targets.base import BuiltIn
from chaos.errors import HarnessError


class Obedient(BuiltIn):
    """Does what the file `order` of a state says."""

    name = "obedient"

    def __init__(self) -> None:
        """No options."""
        super().__init__({})

    def observe(self, data: Path, promise: Promise, *, thorough: bool) -> Observation:
        """Crash, hang, fail or answer."""
        match (data / "order").read_text():
            case "crash":
                os.write(2, b"so it ends")
                os.kill(os.getpid(), signal.SIGSEGV)
            case "leave":
                os._exit(3)
            case "hang":
                child = subprocess.Popen(["sleep", "600"])
                (data.parent / "pid").write_text(str(child.pid))
                threading.Event().wait()
            case "fail":
                raise OSError("no space for the harness")
        return Observation(found=tuple(sorted(path.name for path in data.iterdir())))


def _state(order: str, **others: str) -> tuple[Tree, Promise]:
    files = {name: Content.of(text.encode()) for name, text in {"order": order, **others}.items()}
    return Tree(files), Promise()


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    """A checker with little patience."""
    return Checker(Obedient(), tmp_path, limit_s=0.5)


def test_each_state_is_looked_at_by_itself(checker: Checker):
    """Nothing of one state is left in the folder when the next is looked at."""
    first, second = checker.check_all([_state("", a="1"), _state("", b="2")])
    assert first.found == ("a", "order")
    assert second.found == ("b", "order")


def test_a_process_that_ends_over_a_state_leaves_the_others_untouched(checker: Checker):
    """A crash, an exit and a hang are told of the state that caused them, and the rest of the batch is looked at."""
    seen = checker.check_all([_state("crash"), _state("leave"), _state("hang"), _state("")])
    assert seen[0].killed == "SIGSEGV: so it ends"
    assert seen[1].killed == "exit status 3"
    assert seen[2].hung == "no answer within 0.5 s"
    assert seen[3] == Observation(found=("order",))


def test_what_a_hanging_store_started_is_gone(checker: Checker, tmp_path: Path):
    """The time limit ends the whole session, programs that the store started included."""
    checker.check(*_state("hang"))
    assert wait_until(lambda: gone(int((tmp_path / "pid").read_text())))


def test_a_failure_of_the_looking_is_no_finding(checker: Checker):
    """An error that the target did not expect is the harness's, and is raised."""
    with pytest.raises(HarnessError, match="no space for the harness"):
        checker.check(*_state("fail"))


def test_the_scratch_folder_is_removed(tmp_path: Path):
    """At the end of the block the folder is gone with all that is in it."""
    with scratch(tmp_path) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_the_scratch_folder_goes_when_its_owner_is_killed(tmp_path: Path):
    """SIGKILL of the process that made it leaves nothing behind."""
    program = (
        "import signal, sys; from pathlib import Path; from chaos.crashpoints.scratch import scratch\n"
        f"with scratch(Path({str(tmp_path)!r})) as folder:\n"
        "    (folder / 'x').write_text('x'); print(folder, flush=True); signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        folder = Path(process.stdout.readline().strip())
        assert (folder / "x").exists()
        process.kill()
    assert wait_until(lambda: not folder.exists())
