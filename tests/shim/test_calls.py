"""Each hooked symbol, one by one: its fault lands, hurts as promised, and touches nothing else."""

from __future__ import annotations

import errno
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.faults.disk import calls, layout

pytestmark = pytest.mark.requires("compiler")

_ROW = re.compile(r"^(CALL|SAME|VARIANT)\((.*)\)$", re.MULTILINE)
VICTIM = Path(__file__).parent / "victims" / "call.c"
ONE_CALL_OF_EACH_FAMILY = [calls.table().find(family)[0].name for family in calls.table().families]


@dataclass(frozen=True)
class Symbol:
    """A libc symbol, the call that it counts as, and the shape of its parameters."""

    name: str
    call: str
    shape: str


def _symbols() -> list[Symbol]:
    shapes: dict[str, str] = {}
    found = []
    for match in _ROW.finditer(calls.TABLE.read_text()):
        fields = [field.strip() for field in match[2].split(",")]
        if match[1] == "CALL":
            shapes[fields[0]] = fields[2]
            found.append(Symbol(fields[0], fields[0], fields[2]))
        elif match[1] == "VARIANT":
            found.append(Symbol(fields[0], fields[1], fields[2]))
        elif fields[1] in shapes:
            found.append(Symbol(fields[0], fields[1], shapes[fields[1]]))
    return found


SYMBOLS = _symbols()


@pytest.fixture(scope="session")
def victim(compile_program):
    """The compiled victim that makes one call several times."""
    return compile_program(VICTIM, VICTIM.with_name("raw.c"), flags=("-ldl",))


def outcomes(sandbox, victim, symbol: Symbol, path: Path, count: int = 3) -> list[tuple[int, int]]:
    """Make the call `count` times and return its results with errno, as the calling program sees them."""
    done = sandbox.run(victim, symbol.name, symbol.shape, path, count)
    assert done.returncode == 0, done.stderr
    if done.stdout == "absent\n":
        pytest.fail(f"{symbol.name} is not exported by the shim")
    pairs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    if symbol.shape == "POSIX_FALLOCATE":  # returns the error number and leaves errno alone
        return [(-1 if result else 0, result) for result, _ in pairs]
    return pairs


def test_the_table_is_not_empty() -> None:
    """The cases below are made from calls.def, so an unreadable table must not pass for no cases."""
    assert len(SYMBOLS) > 50
    assert {symbol.call for symbol in SYMBOLS} == {call.name for call in calls.table().calls}


@pytest.mark.parametrize("symbol", SYMBOLS, ids=lambda symbol: symbol.name)
def test_symbol(sandbox, victim, symbol: Symbol) -> None:
    """The second of three calls fails with EIO; the others succeed, another file and a healed one are untouched."""
    sandbox.arm("errno", symbol.call, error="EIO", nth=2, count=1)
    first, second, third = outcomes(sandbox, victim, symbol, sandbox.store / "file")
    assert second == (-1, errno.EIO)
    assert first[0] >= 0
    assert third[0] >= 0
    assert first[1] == third[1] == 0, "errno is left alone by a call that succeeds"
    elsewhere = outcomes(sandbox, victim, symbol, sandbox.other / "file")
    assert all(result >= 0 for result, _ in elsewhere)
    outside = outcomes(sandbox, victim, symbol, sandbox.root.parent / "file")
    assert all(result >= 0 for result, _ in outside)
    assert sandbox.disarm() == {"calls_matched": 3, "calls_failed": 1}
    assert all(result >= 0 for result, _ in outcomes(sandbox, victim, symbol, sandbox.store / "file"))
    (record,) = sandbox.control.records()
    assert (record.call, record.error) == (symbol.call, "EIO")
    assert record.path.startswith("store/file")  # links have a second name, temporary files an ending


@pytest.mark.parametrize("call", calls.table().calls, ids=lambda call: call.name)
def test_each_allowed_error_arrives(sandbox, victim, call: calls.Call) -> None:
    """Every errno that the table allows for a call reaches the program as that errno."""
    symbol = next(symbol for symbol in SYMBOLS if symbol.name == call.name)
    for error in call.errors:
        sandbox.arm("errno", call.name, error=error)
        assert outcomes(sandbox, victim, symbol, sandbox.store / "file", 1) == [(-1, getattr(errno, error))]
        assert sandbox.disarm()["calls_failed"] == 1


@pytest.mark.parametrize("name", ONE_CALL_OF_EACH_FAMILY)
def test_rule_for_other_calls_does_nothing(sandbox, victim, name: str) -> None:
    """A rule for all other families leaves a call of this family alone, and does not count it."""
    symbol = next(symbol for symbol in SYMBOLS if symbol.name == name)
    family = next(call.family for call in calls.table().calls if call.name == name)
    others = [other for other in calls.table().families if other != family]
    sandbox.control.arm("f0", {"action": "errno", "error": "EIO", "calls": others, "path": "*"})
    assert all(result >= 0 for result, _ in outcomes(sandbox, victim, symbol, sandbox.store / "file"))
    assert sandbox.disarm()["calls_matched"] == 0


@pytest.mark.parametrize("action", ["kill", "kill_after"])
@pytest.mark.parametrize("name", ONE_CALL_OF_EACH_FAMILY)
def test_kill(sandbox, victim, name: str, action: str) -> None:
    """The process dies by SIGKILL at its second matching call, and the record outlives it."""
    symbol = next(symbol for symbol in SYMBOLS if symbol.name == name)
    sandbox.arm(action, name, nth=2, count=1)
    done = sandbox.run(victim, symbol.name, symbol.shape, sandbox.store / "file", 3)
    assert done.returncode == -signal.SIGKILL
    assert sandbox.disarm() == {"calls_matched": 2, "processes_killed": 1}
    (record,) = sandbox.control.records()
    assert (record.action, record.call) == (action, name)


@pytest.mark.parametrize(("action", "left"), [("kill", True), ("kill_after", False)])
def test_kill_before_or_after_the_call(sandbox, action: str, left: bool) -> None:
    """A kill before the call leaves the call undone, a kill after it leaves it done."""
    (sandbox.store / "file").touch()
    sandbox.arm(action, "unlink")
    done = sandbox.python("import os, sys; os.unlink(sys.argv[1])", sandbox.store / "file")
    assert done.returncode == -signal.SIGKILL
    assert (sandbox.store / "file").exists() is left


def test_error_on_open_creates_nothing(sandbox) -> None:
    """A call that is made to fail is not executed."""
    sandbox.arm("errno", "open", error="EMFILE")
    code = "import os, sys\ntry: os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)\nexcept OSError as error: print(error.errno)"
    assert sandbox.python(code, sandbox.store / "file").stdout == f"{errno.EMFILE}\n"
    assert not (sandbox.store / "file").exists()


def test_failed_close_releases_the_descriptor(sandbox) -> None:
    """A close that reports EIO has closed the file, as Linux does; the number is free again."""
    sandbox.arm("errno", "close", error="EIO", count=1)
    code = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
try: os.close(fd)
except OSError as error: print(error.errno)
try: os.fstat(fd)
except OSError as error: print(error.errno)
"""
    assert sandbox.python(code, sandbox.store / "file").stdout == f"{errno.EIO}\n{errno.EBADF}\n"


def test_remove_takes_folders_too(sandbox) -> None:
    """C's remove deletes a file or an empty folder, as without the shim, and is one call either way."""
    (sandbox.store / "file").touch()
    (sandbox.store / "folder").mkdir()
    sandbox.arm("count", "remove")
    code = "import ctypes, sys; print([ctypes.CDLL(None).remove(path.encode()) for path in sys.argv[1:]])"
    done = sandbox.python(code, sandbox.store / "file", sandbox.store / "folder", sandbox.store / "absent")
    assert done.stdout == "[0, 0, -1]\n"
    assert sandbox.disarm() == {"calls_matched": 3, "calls_counted": 2}
    assert list(sandbox.store.iterdir()) == []


def test_shim_refuses_an_error_that_a_call_never_reports(sandbox, victim) -> None:
    """Even a rule written past the harness's own check cannot make a call fail in a way that its page excludes."""
    symbol = next(symbol for symbol in SYMBOLS if symbol.name == "fsync")
    sandbox.arm("errno", "fsync", error="EIO")
    rule = sandbox.control._file.rules[0]
    rule.error = errno.EMFILE
    rule.checksum = layout.checksum(rule, rule.generation)
    assert outcomes(sandbox, victim, symbol, sandbox.store / "file", 1) == [(0, 0)]
    assert sandbox.disarm() == {"calls_matched": 0, "calls_failed": 0}


def test_half_written_rule_does_nothing(sandbox, victim) -> None:
    """A rule whose fields and checksum disagree is not obeyed."""
    symbol = next(symbol for symbol in SYMBOLS if symbol.name == "fsync")
    sandbox.arm("errno", "fsync", error="EIO", nth=9)
    sandbox.control._file.rules[0].nth = 1
    assert outcomes(sandbox, victim, symbol, sandbox.store / "file", 1) == [(0, 0)]
    assert sandbox.disarm()["calls_matched"] == 0


def test_reference_page_is_current() -> None:
    """docs/reference/shim-calls.md says what calls.def says."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "shim-calls.md"
    assert page.read_text() == calls.reference()
