"""Finding the library, and compiling it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.errors import EnvironmentUnavailable
from chaos.faults.disk import build, library
from chaos.faults.disk.control import Control


@pytest.fixture
def built(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library compiled from this tree, found through the override."""
    path = build.build(tmp_path_factory.mktemp("built"))
    monkeypatch.setenv(library.OVERRIDE, str(path))
    return path


@pytest.mark.requires("compiler")
def test_built_library_is_found_and_fresh(built: Path) -> None:
    """A library built now is available, and carries the hash of the sources it was built from."""
    assert library.find() == built
    assert library.available() == (True, "")
    assert library.built_hash(built) == build.source_hash()
    assert library.stale() is False


@pytest.mark.requires("compiler")
def test_stale_library_is_noticed(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library built from other sources is told from a fresh one."""
    old = tmp_path / "chaosfs.so"
    old.write_bytes(built.read_bytes().replace(build.source_hash().encode(), b"0" * 64))
    monkeypatch.setenv(library.OVERRIDE, str(old))
    assert library.available()[0]
    assert library.stale() is True


@pytest.mark.requires("compiler")
def test_environment(built: Path, tmp_path: Path) -> None:
    """A victim's environment names the library first, keeps other preloads, and never names ours twice."""
    assert library.environment(tmp_path / "control", {}) == {
        "LD_PRELOAD": str(built),
        "CHAOS_SHIM_CONTROL": str(tmp_path / "control"),
    }
    again = library.environment(tmp_path / "control", {"LD_PRELOAD": f"{built}:/lib/a.so /lib/b.so"})
    assert again["LD_PRELOAD"] == f"{built}:/lib/a.so:/lib/b.so"


@pytest.mark.skipif(not build.supported()[0], reason=build.supported()[1])
def test_unusable_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file and another library are each told with a remedy."""
    other = tmp_path / "other.so"
    other.write_bytes(b"\x7fELF")
    for path, text in ((tmp_path / "no.so", "is not a file"), (other, "is not the file shim")):
        monkeypatch.setenv(library.OVERRIDE, str(path))
        usable, reason = library.available()
        assert not usable
        assert text in reason
        with pytest.raises(EnvironmentUnavailable, match=text):
            library.environment(tmp_path / "control")


@pytest.mark.requires("compiler")
def test_a_path_with_blanks_can_be_preloaded(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LD_PRELOAD cannot name it, so it is named by a descriptor, and victims attach all the same."""
    blank = tmp_path / "with blank: and colon" / "chaosfs.so"
    blank.parent.mkdir()
    blank.write_bytes(built.read_bytes())
    monkeypatch.setenv(library.OVERRIDE, str(blank))
    root = tmp_path / "root"
    root.mkdir()
    with Control.create(tmp_path / "control", root) as control:
        variables = library.environment(tmp_path / "control", {})
        assert not set(" :") & set(variables["LD_PRELOAD"])
        subprocess.run([sys.executable, "-c", ""], env={**os.environ, **variables}, check=True)
        assert control.attached == 1


@pytest.mark.parametrize(("platform", "machine"), [("darwin", "arm64"), ("win32", "AMD64"), ("linux", "riscv64")])
def test_other_systems(monkeypatch: pytest.MonkeyPatch, platform: str, machine: str) -> None:
    """Elsewhere the shim is unavailable with the reason, and a build is refused in the same words."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("platform.machine", lambda: machine)
    usable, reason = library.available()
    assert not usable
    assert platform in reason or machine in reason
    with pytest.raises(build.BuildFailed, match="file shim"):
        build.build(Path("/nonexistent"))


@pytest.mark.requires("compiler")
def test_failed_build_shows_what_the_compiler_said(tmp_path: Path) -> None:
    """The compiler's own words are in the error, and nothing is left behind."""
    compiler = build.find_system_compiler()
    assert compiler
    with pytest.raises(build.BuildFailed, match="no_such_flag"):
        build.build(tmp_path / "out", [*compiler, "--no_such_flag"])
    assert list((tmp_path / "out").iterdir()) == []


def test_no_compiler_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a working compiler the error says what was tried."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert build.find_system_compiler() is None
    with pytest.raises(build.BuildFailed, match="no C compiler found"):
        build.find_compiler()


@pytest.mark.requires("compiler")
def test_library_needs_no_other_library(built: Path) -> None:
    """The library names no library that it needs and asks libc for next to nothing, so it serves any libc."""
    data = built.read_bytes()
    assert b"libc.so" not in data
    assert b"GLIBC_" not in data
    assert b"__errno_location" in data
