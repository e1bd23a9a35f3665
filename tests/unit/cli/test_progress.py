from __future__ import annotations

import errno
import io
import sys

import pytest

from chaos.cli.progress import line_of, watching
from chaos.runner.api import Snapshot


def test_line_shows_where_the_run_is() -> None:
    """Phase, rate, acknowledged, open faults and the time left are on the line."""
    snapshot = Snapshot(phase="load", rate=59.6, acknowledged=120, open_faults=("f0", "f2"), seconds_left=7.2)
    assert line_of("partition", snapshot) == "partition  load  60/s  120 acknowledged  faults: f0, f2  7s left"


def test_no_progress_without_a_terminal() -> None:
    """Where stderr is no terminal nothing is shown, so a log holds no control characters."""
    with watching("partition") as progress:
        assert progress is None


class Dead(io.StringIO):
    """A terminal that hung up."""

    def write(self, text: str) -> int:
        """Fail as the kernel lets a write to such a terminal fail."""
        raise OSError(errno.EIO, "Input/output error")

    def isatty(self) -> bool:
        """It was a terminal when somebody asked."""
        return True


def test_a_terminal_that_is_gone_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress line that cannot be shown is no failure of the run that it follows."""
    monkeypatch.setattr(sys, "stderr", Dead())
    monkeypatch.setenv("TERM", "xterm")
    shown = 0
    with watching("partition") as progress:
        assert progress is not None
        for _ in range(2):
            progress.update(Snapshot(phase="load", rate=1.0, acknowledged=1, open_faults=(), seconds_left=1.0))
            shown += 1
    assert shown == 2
