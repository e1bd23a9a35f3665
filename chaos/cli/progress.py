"""A line on the terminal that shows where a run is, and goes away when it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chaos.cli.speech import silence

if TYPE_CHECKING:
    from rich.live import Live

    from chaos.runner.api import Snapshot


def line_of(title: str, snapshot: Snapshot) -> str:
    """Return the progress line: phase, rate, acknowledged, open faults, seconds left."""
    faults = f"  faults: {', '.join(snapshot.open_faults)}" if snapshot.open_faults else ""
    return (
        f"{title}  {snapshot.phase}  {snapshot.rate:.0f}/s  {snapshot.acknowledged} acknowledged{faults}"
        f"  {snapshot.seconds_left:.0f}s left"
    )


class LiveLine:
    """Follows a run on stderr."""

    def __init__(self, title: str, live: Live) -> None:
        """Write through `live`, each line headed by `title`."""
        self._title = title
        self._live = live

    def update(self, snapshot: Snapshot) -> None:
        """Replace the line."""
        from rich.text import Text

        with _unheard():
            self._live.update(Text(line_of(self._title, snapshot), overflow="ellipsis", no_wrap=True), refresh=True)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Silence a stderr that cannot be written: a terminal that is gone must not pass for a failure of the run."""
    try:
        yield
    except OSError:
        silence(err=True)


@contextlib.contextmanager
def watching(title: str) -> Iterator[LiveLine | None]:
    """Yield a progress to hand to the runner while stderr is a terminal, else None; leaves nothing on the screen."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    # No refresh thread: the runner starts processes, and updates come often enough by themselves.
    live = Live(
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with _unheard():
        live.start()
    try:
        yield LiveLine(title, live)
    finally:
        with _unheard():
            live.stop()
