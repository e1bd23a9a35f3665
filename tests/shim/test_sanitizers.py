"""The shim itself under sanitizers, in a program of many threads and processes, with rules armed and a log kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.faults.disk import build, library
from chaos.faults.disk.calls import table
from chaos.faults.disk.oplog import Kind, read_log
from chaos.faults.disk.replay import FolderState, apply

pytestmark = [pytest.mark.deep, pytest.mark.requires("compiler"), pytest.mark.timeout(300)]

STORM = Path(__file__).parent / "victims" / "storm.c"
THREADS, TURNS, CHILDREN = 16, 60, 3
APPENDS = (CHILDREN + 1) * THREADS * TURNS
FOUND = 66
"""Exit status when a sanitizer has found something."""

RULES = {
    "errors": {"action": "errno", "error": "EIO", "calls": ("pread", "fsync"), "probability": 0.1},
    "short": {"action": "short", "keep_bytes": 5, "calls": "write", "probability": 0.1, "path": "store/own*"},
    "reverts": {"action": "sync_fail", "pages": "reverted", "calls": ("fsync", "fdatasync"), "probability": 0.3},
    "delays": {"action": "delay", "delay_s": 0.0001, "calls": "sync", "probability": 0.2},
    "lies": {"action": "lie", "calls": "write", "probability": 0.1, "path": "store/own*"},
    "rot": {"action": "rot", "unit_bytes": 16, "calls": "read"},
    "misdirects": {"action": "misdirect", "shift_bytes": 512, "calls": "write", "probability": 0.1, "path": "store/own*"},
}  # fmt: skip

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A function that links the victim with the shim's sources and a sanitizer, and returns the program.

    Under ASan the hooks take the place of libc's functions in the program, as in a victim. TSan's own library calls
    some of these before it is ready, so there the hooks have names of their own, which only the victim calls.
    """
    folder = tmp_path_factory.mktemp("storm")
    symbols = [symbol for call in table().calls for symbol in call.symbols] + list(table().tracked)
    (folder / "renamed.h").write_text("".join(f"#define {name} hooked_{name}\n" for name in symbols))

    def build_it(sanitizer: str, *defines: str) -> Path:
        compiler = build.find_system_compiler()
        assert compiler is not None
        target = folder / "-".join((sanitizer.partition(",")[0], *defines))
        # The sanitizers bring copies of memory's functions, which must not be ours.
        sources = [path for path in build.source_files() if path.suffix == ".c" and path.name != "memory.c"]
        renamed = ("-include", str(folder / "renamed.h")) if sanitizer == "thread" else ()
        flags = ["-g", "-O1", "-std=c11", "-D_GNU_SOURCE", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
        stamp = f'-DCHAOS_SOURCE_SHA256="{build.source_hash()}"'
        command = [*compiler, *flags, "-ftls-model=initial-exec", "-U_FORTIFY_SOURCE", stamp, *renamed]
        command += [*(f"-D{name}" for name in defines), f"-I{build.SOURCES}", "-o", str(target), str(STORM)]
        done = subprocess.run(
            [*command, *map(str, sources), "-ldl", "-pthread"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return target

    return build_it


def run(sandbox, program: Path, turns: int = TURNS) -> subprocess.CompletedProcess[str]:
    """Run the storm on the store, without address randomisation, which older TSan cannot live with."""
    variables = {
        **os.environ,
        library.CONTROL: str(sandbox.control.path),
        "TSAN_OPTIONS": f"halt_on_error=1 exitcode={FOUND}",
        "ASAN_OPTIONS": f"exitcode={FOUND}",
    }
    command = ["setarch", "-R", program, sandbox.store, str(THREADS), str(turns), str(CHILDREN)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize("ruled", [False, True], ids=["", "under rules"])
def test_a_storm_is_clean_and_loses_nothing(sandbox, tmp_path: Path, storm: Build, sanitizer: str, ruled: bool) -> None:
    """Four processes of sixteen threads each: nothing is found, every call is counted once and every record is there."""
    before = FolderState.read(sandbox.root)
    sandbox.control.record(tmp_path / "log")
    sandbox.arm("count", "write", "store/shared", rule_id="appends")
    for seed, (name, rule) in enumerate(RULES.items() if ruled else ()):
        sandbox.control.arm(name, {"path": "store/*", "seed": seed, **rule})
    done = run(sandbox, storm(sanitizer))
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(map(int, done.stdout.split())) == APPENDS
    sandbox.control.stop_recording()
    assert sandbox.disarm("appends")["calls_counted"] == APPENDS
    for name in RULES if ruled else ():
        evidence = sandbox.disarm(name)
        assert all(evidence.values()), name
    log = read_log(tmp_path / "log")
    assert sum(one.kind is Kind.WRITE and one.name == "store/shared" for one in log) == APPENDS
    assert len({one.clock for one in log}) == len(log)
    assert Kind.TAINT not in {one.kind for one in log}
    assert apply(log, before).contents() == FolderState.read(sandbox.root).contents()


@pytest.mark.parametrize(("sanitizer", "plant"), [("address,undefined", "PLANT_OVERRUN"), ("thread", "PLANT_RACE")])
def test_the_sanitizers_are_awake(sandbox, storm: Build, sanitizer: str, plant: str) -> None:
    """A mistake planted in the victim is found, so a clean run means something."""
    done = run(sandbox, storm(sanitizer, plant), turns=5)
    assert done.returncode != 0
    assert "Sanitizer: " in done.stderr
