"""The C side by itself: the layout Python mirrors, and the rule matcher under sanitizers."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from chaos.faults.disk import build, layout, oplog

pytestmark = pytest.mark.requires("compiler")

VICTIMS = Path(__file__).parent / "victims"
STRUCTURES = {"control": layout.File, "rule": layout.Rule, "record": layout.Record}


def test_layout_is_the_same_on_both_sides(compile_program, sandbox) -> None:
    """Each field of the control file has the same place and size in C and in Python."""
    program = compile_program(VICTIMS / "layout.c")
    lines = [line.split() for line in sandbox.run(program, env={}).stdout.splitlines()]
    said = {name: (int(place), int(size)) for name, place, size in lines}
    assert said.pop("magic")[0] == layout.MAGIC
    assert said.pop("total")[0] == ctypes.sizeof(layout.File)
    assert said.pop("end")[0] == len(layout.Action)
    assert said.pop("kinds") == (len(oplog.Kind) + 1, oplog.HEADER_BYTES)
    mirrored = {
        f"{structure}.{field[0]}": (getattr(kind, field[0]).offset, getattr(kind, field[0]).size)
        for structure, kind in STRUCTURES.items()
        for field in kind._fields_
        if not field[0].startswith("_")
    }
    assert said == mirrored


def test_kinds_have_the_same_numbers() -> None:
    """The log's kinds and magic are the same in C and in Python."""
    text = (build.SOURCES / "oplog.h").read_text()
    declared = {name: int(number) for name, number in re.findall(r"KIND_(\w+) = (\d+)", text)}
    assert declared == {"NONE": 0, "END": len(oplog.Kind) + 1, **{kind.name: kind.value for kind in oplog.Kind}}
    assert f"0x{oplog.MAGIC:x}" in text


def test_matcher_under_sanitizers(compile_program, sandbox) -> None:
    """Globs, rules, counters and budgets behave, and neither sanitizer finds anything."""
    program = compile_program(
        VICTIMS / "match_check.c",
        build.SOURCES / "match.c",
        flags=("-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    )
    done = sandbox.run(program, env={})
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" checks hold\n")
    assert int(done.stdout.split()[0]) > 1000


def test_checksum_agrees_with_c(sandbox) -> None:
    """A rule written from Python is accepted by the shim: the two checksums agree."""
    sandbox.arm("count", "open")
    sandbox.python("import sys; open(sys.argv[1], 'w').close()", sandbox.store / "file")
    assert sandbox.disarm()["calls_counted"] == 1
