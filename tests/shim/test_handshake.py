"""A program that cannot find its rules ends before it does anything: it never runs un-faulted unnoticed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.faults.disk import build, layout, library

UNFAULTED = 86
MARKER = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"


def _missing(path: Path) -> None:
    path.unlink()


def _short(path: Path) -> None:
    os.truncate(path, ctypes.sizeof(layout.File) - 1)


def _overwrite(field: str, value: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(getattr(layout.File, field).offset)
            file.write(value.to_bytes(getattr(layout.File, field).size, "little"))

    return change


def _unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_missing, "cannot be opened"),
        (_unreadable, "cannot be opened"),
        (_short, "too short"),
        (_overwrite("magic", 1), "is not a control file"),
        (_overwrite("abi", layout.ABI + 1), "another version"),
        (_overwrite("total_bytes", 1), "another version"),
    ],
    ids=["missing", "folder", "short", "magic", "abi", "size"],
)
def test_bad_control_file(sandbox, spoil, reason: str) -> None:
    """Whatever is wrong with the control file, the program ends with one line that names the file and the reason."""
    spoil(sandbox.control.path)
    done = sandbox.python(MARKER, sandbox.store / "ran")
    assert done.returncode == UNFAULTED
    assert done.stderr.count("\n") == 1
    assert str(sandbox.control.path) in done.stderr
    assert reason in done.stderr
    assert not (sandbox.store / "ran").exists()


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_no_control_file_named(sandbox, value: str | None) -> None:
    """Without the variable the program ends too, so a launcher that loses half the environment is noticed."""
    environment = {name: text for name, text in sandbox.environment.items() if name != library.CONTROL}
    if value is not None:
        environment[library.CONTROL] = value
    done = sandbox.python(MARKER, sandbox.store / "ran", env=environment)
    assert done.returncode == UNFAULTED
    assert "CHAOS_SHIM_CONTROL is not set" in done.stderr
    assert not (sandbox.store / "ran").exists()


@pytest.mark.parametrize("padding", [0, 900, 1005, 1006, 1007, 1023, 1024, 5000])
def test_variable_is_found_anywhere_in_the_environment(sandbox, padding: int) -> None:
    """The variable is found wherever it lies in the kernel's copy, across the reader's chunks too."""
    environment = {
        "A": "x" * padding,
        "NOT_CHAOS_SHIM_CONTROL": "/nowhere",
        "B": "CHAOS_SHIM_CONTROL=/nowhere",
        "CHAOS_SHIM_CONTROLLER": "/nowhere",
        **{name: sandbox.environment[name] for name in ("LD_PRELOAD", library.CONTROL)},
    }
    assert sandbox.run("/bin/true", env=environment).returncode == 0
    assert sandbox.control.attached == 1


def test_attached_programs_are_listed(sandbox) -> None:
    """Each program that loads the shim is counted with its pid; children inherit it; the library tells its sources."""
    assert (sandbox.control.attached, sandbox.control.source_hash) == (0, None)
    code = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', '']); print(os.getpid())"
    done = sandbox.python(code)
    assert sandbox.control.attached == 2
    assert sandbox.control.has_attached(int(done.stdout))
    assert not sandbox.control.has_attached(os.getpid())
    assert sandbox.control.source_hash == build.source_hash()


def test_other_preloads_stay(sandbox, shim_library) -> None:
    """A preload that the user has is kept behind ours, and the hooks come first."""
    environment = library.environment(sandbox.control.path, {"LD_PRELOAD": "libm.so.6"})
    assert environment["LD_PRELOAD"] == f"{shim_library}:libm.so.6"
    done = subprocess.run(
        [sys.executable, "-c", ""], env={**os.environ, **environment}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert sandbox.control.attached == 1
