from __future__ import annotations

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
