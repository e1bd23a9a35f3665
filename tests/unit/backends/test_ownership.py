"""Marks of harnesses: who is meant, and what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.backends.docker import sweep
from chaos.backends.ownership import OWNER_FILE, Owner, own_name, owner_in, owner_of


def test_a_name_says_whose_it_is() -> None:
    """What own_name makes, owner_of reads; this process is alive."""
    name = own_name("f0", "request")
    owner = owner_of(name)
    assert owner == Owner.this()
    assert name == f"{owner.prefix}f0.request"
    assert Owner.parse(owner.mark) == owner
    assert owner.pid == os.getpid()
    assert owner.state == "alive"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "redis",
        "chaos",
        "chaos.",
        "chaos.latency",
        "chaos.1.2.3",
        "chaos.0123abcd.1.2",
        "chaos.0123abcd.1.2.",
        "xchaos.0123abcd.1.2.f0",
        "chaos.0123ABCD.1.2.f0",
        "chaos-0123abcd-1-2-f0",
    ],
)
def test_names_of_others_are_nobody_s(name: str) -> None:
    """Whatever does not have the whole form is not ours."""
    assert owner_of(name) is None


@pytest.mark.parametrize("mark", ["", "1", "1.2", "0123abcd.1", "0123abcd.1.2.3", "0123abcd.x.2", "0123abcd:1:2"])
def test_a_mark_that_is_none_has_no_owner(mark: str) -> None:
    """It is not guessed at."""
    assert Owner.parse(mark) is None


def test_a_pid_that_came_again_is_another_process() -> None:
    """The start time tells them apart."""
    assert Owner(Owner.this().place, os.getpid(), "1").state == "dead"


def test_a_process_that_has_ended_is_dead_before_it_is_reaped() -> None:
    """A zombie owns nothing any more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    owner = Owner(Owner.this().place, process.pid, sweep.start_time(process.pid) or "")
    assert owner.state == "alive"
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner.state == "dead"
    process.communicate()
    assert owner.state == "dead"


def test_a_process_elsewhere_cannot_be_judged() -> None:
    """Neither dead nor alive, even when there is such a process here."""
    this = Owner.this()
    assert Owner("00000000", this.pid, this.started).state == "elsewhere"
    assert Owner("00000000", 2**22 + 1, "1").state == "elsewhere"


def test_a_machine_of_the_same_name_is_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host name and first pid namespace are the same on many machines; the id of the installation is not."""
    places, marks = [], []
    for number, text in enumerate(("4f1c", "b70d", "", None)):
        path = tmp_path / f"id-{number}"
        if text is not None:
            path.write_text(text + "\n")
        monkeypatch.setattr(sweep, "_MACHINE_ID", path)
        places.append(sweep.place())
        marks.append(Owner.this().mark)
    assert len(set(places)) == len(set(marks)) == 3
    assert places[2] == places[3], "an empty file is none"
    assert not any("4f1c" in place or "b70d" in place for place in places), "the id itself is not told to others"
    assert sweep.owner_state(f"{os.getpid()}:{Owner.this().started}", places[0]) == "elsewhere"


def test_the_owner_of_a_folder_is_in_its_file(tmp_path: Path) -> None:
    """No file, or one that says something else, is no owner."""
    assert owner_in(tmp_path) is None
    (tmp_path / OWNER_FILE).write_text(Owner.this().mark + "\n")
    assert owner_in(tmp_path) == Owner.this()
    (tmp_path / OWNER_FILE).write_bytes(b"\xff\xfe")
    assert owner_in(tmp_path) is None
