"""How file faults reach a store: what is chosen, and what is said when nothing can."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chaos.errors import EnvironmentUnavailable
from chaos.experiment.reach import out_of_reach, refusal
from chaos.faults import BitRot, DiskError, Kill, PowerLoss
from chaos.faults.disk import library, strace
from chaos.faults.disk.mechanisms import NONE, PRELOAD, STRACE, Mechanism, choose, is_static


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch):
    """A function that says whether shim and strace are here."""

    def say(*, shim: bool, tracer: bool) -> None:
        monkeypatch.setattr(library, "available", lambda: (shim, "" if shim else "no shim"))
        monkeypatch.setattr(strace, "available", lambda: (tracer, "" if tracer else "no strace"))

    return say


def _elf(folder: Path, *kinds: int, bits: int = 64) -> Path:
    """Write the head of an ELF program whose table has entries of these kinds."""
    wide = bits == 64
    head = bytearray(64)
    head[:6] = b"\x7fELF" + bytes([2 if wide else 1, 1])
    entry = 56 if wide else 32
    for at, size, value in (
        ((32, 8, 64), (54, 2, entry), (56, 2, len(kinds)))
        if wide
        else ((28, 4, 64), (42, 2, entry), (44, 2, len(kinds)))
    ):
        head[at : at + size] = value.to_bytes(size, "little")
    path = folder / "program"
    path.write_bytes(bytes(head) + b"".join(kind.to_bytes(4, "little") + bytes(entry - 4) for kind in kinds))
    return path


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("kinds", "static"), [((6, 3, 1), False), ((1, 1), True), ((1, 2), True), ((), False)])
def test_a_program_without_a_loader_is_static(tmp_path: Path, kinds: tuple[int, ...], static: bool, bits: int) -> None:
    """What names an interpreter can be preloaded into; what has a table without one cannot."""
    assert is_static(_elf(tmp_path, *kinds, bits=bits)) is static


def test_what_is_no_program_is_not_static(tmp_path: Path) -> None:
    """A script, an empty file, nothing at all, and this interpreter."""
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "empty").write_text("")
    assert not any(map(is_static, (tmp_path / "script", tmp_path / "empty", tmp_path / "absent", Path(sys.executable))))


def test_preload_comes_first(here, tmp_path: Path) -> None:
    """With both here, strace is for what is static only."""
    here(shim=True, tracer=True)
    chosen = choose("auto", ("sqlite", "redis"), _elf(tmp_path, 1))
    assert (chosen["sqlite"].name, chosen["redis"].name) == (PRELOAD, STRACE)
    assert choose("auto", ("redis",), None)["redis"] == Mechanism(PRELOAD)


def test_strace_takes_the_place_of_a_missing_shim(here) -> None:
    """The reason why is kept."""
    here(shim=False, tracer=True)
    assert choose("auto", ("sqlite",), None) == {"sqlite": Mechanism(STRACE, "no shim")}


def test_nothing_is_chosen_where_nothing_is(here) -> None:
    """Both reasons are told; no error, as long as nobody wants a file fault."""
    here(shim=False, tracer=False)
    assert choose("auto", ("sqlite",), None) == {"sqlite": Mechanism(NONE, "no shim; and no strace")}


@pytest.mark.parametrize(("asked", "shim", "tracer"), [(PRELOAD, False, True), (STRACE, True, False)])
def test_what_was_asked_for_is_not_replaced(here, asked: str, shim: bool, tracer: bool) -> None:
    """A mechanism that was named and is not here is an error with its reason."""
    here(shim=shim, tracer=tracer)
    with pytest.raises(EnvironmentUnavailable, match=f"--files {asked} cannot be done: no"):
        choose(asked, ("sqlite",), None)


def test_what_is_refused_depends_on_the_store() -> None:
    """A fault is judged by what reaches its own store; a loss of power by what reaches all."""
    by = {"sqlite": Mechanism(PRELOAD), "redis": Mechanism(STRACE, "static"), "graph": Mechanism(NONE, "nothing")}
    assert refusal(BitRot("sqlite"), by) is None
    assert "redis is reached by strace (static)" in str(refusal(BitRot("redis"), by))
    assert refusal(DiskError("redis"), by) is None
    assert "no log" in str(refusal(PowerLoss(), by))
    assert refusal(Kill("redis"), by) is None
    assert out_of_reach([DiskError("sqlite"), Kill("graph")], by) == ([], "")
    assert out_of_reach([DiskError("graph")], by) == (["disk.error"], "nothing")
