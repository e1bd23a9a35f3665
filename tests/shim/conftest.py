"""What the tests of the file shim share: a library built from this tree, compiled victims, and a place to hurt them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recording_support import Recorder

from chaos.faults.disk import build, library
from chaos.faults.disk.control import Control

HERE = Path(__file__).parent
VICTIMS = HERE / "victims"
Compile = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The shim built from the sources of this tree; the installed one where there is no compiler.

    Yields its path and has `library.find` return it for all tests here.
    """
    usable, reason = build.supported()
    if not usable:
        pytest.skip(reason)
    path = library.find()
    if path is None or library.built_hash(path) != build.source_hash():
        if build.find_system_compiler() is None:
            if "compiler" in os.environ.get("CHAOS_REQUIRE", "").split(","):
                pytest.fail("CHAOS_REQUIRE demands a compiler, and none works here")
            pytest.skip("the file shim is not built from these sources and there is no compiler: pip install -e .")
        path = build.build(tmp_path_factory.mktemp("chaosfs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(library.OVERRIDE, str(path))
        yield path


@pytest.fixture(scope="session")
def compile_program(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """A function that compiles sources (paths) with flags into a program and returns its path."""
    folder = tmp_path_factory.mktemp("programs")

    def compile_it(*sources: Path, flags: tuple[str, ...] = ()) -> Path:
        compiler = build.find_system_compiler()
        assert compiler is not None, "mark the test requires(compiler)"
        target = folder / sources[0].stem
        command = [*compiler, "-g", *flags, f"-I{build.SOURCES}", "-o", str(target), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return target

    return compile_it


@pytest.fixture(scope="session")
def raw_library(compile_program: Compile) -> Path:
    """A library with `raw`, a system call that no hook sees."""
    return compile_program(VICTIMS / "raw.c", flags=("-shared", "-fPIC"))


class Sandbox:
    """A root with the folders of two stores, its control file, and a way to run programs under the shim."""

    def __init__(self, folder: Path) -> None:
        """Make the folders and the control file below `folder`."""
        self.root = folder / "data"
        self.store = self.root / "store"
        self.other = self.root / "other"
        for each in (self.store, self.other):
            each.mkdir(parents=True)
        self.control = Control.create(folder / "control", self.root)
        self.environment = {**os.environ, **library.environment(self.control.path)}

    def run(self, *command: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end under the shim and return what it said."""
        arguments = [str(part) for part in command]
        settings: dict[str, Any] = {"env": self.environment, "capture_output": True, "text": True, "timeout": 60}
        return subprocess.run(arguments, **{**settings, **options}, check=False)

    def python(self, code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code under the shim; `sys.argv[1:]` are the arguments. A traceback fails the test."""
        done = self.run(sys.executable, "-c", code, *arguments, **options)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def arm(self, action: str, calls: str, path: str = "store/*", rule_id: str = "f0", **more: object) -> None:
        """Arm one rule on the store's files."""
        self.control.arm(rule_id, {"action": action, "calls": calls, "path": path, **more})

    def disarm(self, rule_id: str = "f0") -> dict[str, int | float | str]:
        """Disarm it and return its evidence."""
        return self.control.disarm(rule_id)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A fresh sandbox with no rule armed."""
    box = Sandbox(tmp_path)
    yield box
    box.control.close()


@pytest.fixture
def recorder(sandbox, raw_library: Path, tmp_path: Path) -> Iterator[Recorder]:
    """A recorder whose log is replayed at the end: it must give the folder that is there, and no taint."""
    (sandbox.store / "old").write_bytes(b"0123456789")
    sandbox.environment["RAW"] = str(raw_library)
    recorder = Recorder(sandbox, tmp_path / "log")
    yield recorder
    sandbox.control.stop_recording()
    assert recorder.forgive or recorder.replayed() == recorder.real()
