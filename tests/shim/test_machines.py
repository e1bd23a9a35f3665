"""The shim on musl, and on AArch64: the same sources, and on musl the same library, with the same effects."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.faults.disk import build
from chaos.faults.disk.oplog import Kind, read_log
from chaos.faults.disk.replay import FolderState, apply

VICTIM = Path(__file__).parent / "victims" / "rounds.c"
STREAMS = Path(__file__).parent / "victims" / "streams.c"
AARCH64 = Path("/usr/aarch64-linux-gnu")
GOOD = "write=4 sync=0"
TAKES = {"__errno_location", "clock_gettime", "dlsym", "fileno_unlocked", "fopencookie", "gnu_get_libc_version"}
MUSL_HEADERS = ("-idirafter", "/usr/include", "-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu")
"""musl's compiler brings no headers of the kernel; they stand beside glibc's."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """A function that compiles a victim with the compiler named, once."""
    folder = tmp_path_factory.mktemp("machines")

    def make(compiler: str, source: Path) -> Path:
        target = folder / f"{compiler}-{source.stem}"
        if not target.exists():
            done = subprocess.run(
                [compiler, "-pthread", "-o", target, source], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        return target

    return make


def taken(shim: Path, nm: str = "nm") -> set[str]:
    """Return the symbols that the library takes from others."""
    done = subprocess.run([nm, "-D", "--undefined-only", shim], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines()}


def prove(sandbox, run: Run, log: Path, rounds: str = "wtf") -> None:
    """Show with the victim of rounds that calls are seen, hurt, counted, recorded and killed, in threads and children."""
    before = FolderState.read(sandbox.root)
    sandbox.control.record(log)
    file = sandbox.store / "log"
    assert run(file, input=rounds).stdout.splitlines() == [GOOD] * len(rounds)
    assert sandbox.control.attached == 1
    sandbox.arm("errno", "sync", error="EIO", nth=2, count=1)
    sandbox.arm("short", "write", keep_bytes=3, count=1, rule_id="short")
    assert run(file, input="www").stdout.splitlines() == ["write=3 sync=0", "write=4 sync=-5", GOOD]
    assert sandbox.disarm() == {"calls_matched": 3, "calls_failed": 1}
    assert sandbox.disarm("short") == {"calls_matched": 3, "calls_shortened": 1}
    sandbox.control.stop_recording()
    operations = read_log(log)
    assert sum(one.kind is Kind.WRITE for one in operations) == len(rounds) + 3
    assert len({one.pid for one in operations if one.kind is Kind.WRITE}) == 2 + rounds.count("f")
    assert apply(operations, before).contents() == FolderState.read(sandbox.root).contents()
    sandbox.arm("kill", "sync", nth=2)
    assert run(file, input="www").returncode in (-9, 137)
    assert sandbox.disarm()["processes_killed"] == 1


@pytest.mark.requires("musl-gcc")
@pytest.mark.parametrize("built", ["with glibc", "with musl"])
def test_musl(sandbox, made: Any, tmp_path: Path, built: str) -> None:
    """A program on musl is reached by the library as it is shipped, and by one that musl's compiler has made."""
    if built == "with musl":
        shim = build.build(tmp_path / "shim", ["musl-gcc", *MUSL_HEADERS])
        assert taken(shim) == TAKES
        sandbox.environment["LD_PRELOAD"] = str(shim)
    program = made("musl-gcc", VICTIM)
    assert b"ld-musl" in program.read_bytes()
    prove(sandbox, lambda *words, **options: sandbox.run(program, *words, **options), tmp_path / "log")


@pytest.mark.requires("musl-gcc")
def test_streams_of_musl(sandbox, made: Any, tmp_path: Path) -> None:
    """What a program on musl writes with stdio passes the shim byte for byte."""
    program = made("musl-gcc", STREAMS)
    before = FolderState.read(sandbox.root)
    sandbox.control.record(tmp_path / "log")
    done = sandbox.run(program, sandbox.store / "f")
    assert done.returncode == 0, done.stderr
    sandbox.control.stop_recording()
    operations = read_log(tmp_path / "log")
    written = (sandbox.store / "f").read_bytes()
    assert len(written) > 10_000
    assert apply(operations, before).contents()["store/f"] == written
    sandbox.arm("errno", "write", error="ENOSPC")
    assert sandbox.run(program, sandbox.store / "g").returncode == 1


@pytest.mark.deep
@pytest.mark.requires("aarch64")
def test_aarch64(sandbox, made: Any, tmp_path: Path) -> None:
    """Built by a cross compiler with all warnings, it takes no more from others, and does the same under qemu."""
    shim = build.build(tmp_path / "shim", ["aarch64-linux-gnu-gcc"])
    assert taken(shim, "aarch64-linux-gnu-nm") == TAKES
    program = made("aarch64-linux-gnu-gcc", VICTIM)
    # The emulator is no AArch64 program, so only what it runs is preloaded; the rest of the environment is its own.
    plain = {name: value for name, value in sandbox.environment.items() if name != "LD_PRELOAD"}
    emulator = ["qemu-aarch64", "-L", AARCH64, "-E", f"LD_PRELOAD={shim}"]
    # No fork: this emulator says yes to MADV_WIPEONFORK and does nothing, so a child would take itself for its parent.
    prove(
        sandbox,
        lambda *words, **options: sandbox.run(*emulator, program, *words, env=plain, **options),
        tmp_path / "log",
        rounds="wtw",
    )
