"""Finding a toxiproxy-server, and starting and ending it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from tests_support import gone, wait_until

from chaos.backends.toxiproxy_server import OVERRIDE, ToxiproxyServer, find_toxiproxy, version_of
from chaos.errors import EnvironmentUnavailable

Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Return a function that writes a program which does what a shell line says."""

    def write(line: str) -> Path:
        path = tmp_path / "toxiproxy-server"
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        return path

    return write


def test_the_one_on_path_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a variable the program on PATH is used, and it is the real one."""
    monkeypatch.delenv(OVERRIDE, raising=False)
    assert version_of(find_toxiproxy()) == "2.12.0"


def test_the_variable_wins(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user names is used, whatever is on PATH."""
    path = program("echo toxiproxy-server version 2.9.0")
    monkeypatch.setenv(OVERRIDE, str(path))
    assert find_toxiproxy() == path


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "echo toxiproxy-server version 2.1.4",
            r"is Toxiproxy 2\.1\.4, which must be >= 2\.5\.0; use a toxiproxy-server 2\.12",
        ),
        ("echo toxiproxy-server version unknown", "calls itself version='unknown', which is no Toxiproxy"),
        ("echo Hello; exit 0", "-version said 'Hello' with exit code 0"),
        (
            "echo flag provided but not defined >&2; exit 2",
            "-version said 'flag provided but not defined' with exit code 2",
        ),
        ("exit 1", "-version said 'nothing' with exit code 1"),
    ],
)
def test_one_that_will_not_do_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, line: str, text: str
) -> None:
    """Too old, or something else: one sentence each, before anything is started."""
    monkeypatch.setenv(OVERRIDE, str(program(line)))
    with pytest.raises(EnvironmentUnavailable, match=text):
        find_toxiproxy()


def test_a_build_without_a_version_is_accepted(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """`go install` without flags makes one that calls itself git; whether it serves shows when it starts."""
    monkeypatch.setenv(OVERRIDE, str(program("echo toxiproxy-server version git")))
    assert find_toxiproxy().name == "toxiproxy-server"


def test_what_is_not_a_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that cannot be started is never replaced by another in silence; no program at all says how to get one."""
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "absent"))
    with pytest.raises(EnvironmentUnavailable, match=f"{OVERRIDE}=.*absent is not a program that can be started"):
        find_toxiproxy()
    (tmp_path / "broken").write_bytes(b"\x7fELF")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv(OVERRIDE, str(tmp_path / "broken"))
    with pytest.raises(EnvironmentUnavailable, match="does not run"):
        find_toxiproxy()
    monkeypatch.delenv(OVERRIDE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentUnavailable, match=f"no toxiproxy-server was found on PATH.*{OVERRIDE}"):
        find_toxiproxy()


async def test_it_starts_answers_and_ends(tmp_path: Path) -> None:
    """The API answers when start returns, on loopback only, with metrics; stopping twice is harmless."""
    server = ToxiproxyServer(find_toxiproxy(), tmp_path / "log")
    child = await server.start()
    assert await server.client.demand() == "2.12.0"
    assert await server.client.metrics() == {}
    assert server.client.url.startswith("http://127.0.0.1:")
    await server.stop()
    await server.stop()
    assert child.status is not None


async def test_one_that_ends_at_once_says_why(tmp_path: Path, program: Program) -> None:
    """The end of its log is in the message."""
    server = ToxiproxyServer(program("echo listen: no way; exit 3"), tmp_path / "log")
    with pytest.raises(EnvironmentUnavailable, match=r"ended with status 3: listen: no way"):
        await server.start()
    await server.stop()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """After SIGKILL of the process that started it, it is gone."""
    script = textwrap.dedent(f"""
        import asyncio, pathlib
        from chaos.backends.toxiproxy_server import ToxiproxyServer, find_toxiproxy
        async def main():
            child = await ToxiproxyServer(find_toxiproxy(), pathlib.Path({str(tmp_path / "log")!r})).start()
            print(child.pid, flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert wait_until(lambda: gone(pid), 5)
