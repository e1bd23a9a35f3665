"""What the system had to make again from its commit log, because a store could not be relied upon after an end."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.history.view import History, seconds_of
from chaos.report.layout import paragraph

_BEGUN, _DONE = ".rebuilding", ".rebuilt"


def rebuilt(history: History) -> Iterator[str]:
    """Yield a line for each store that was made again; nothing when none had to be."""
    steps = [entry for entry in history.entries if entry.kind == "step" and entry.f.endswith((_BEGUN, _DONE))]
    for store in dict.fromkeys(entry.f.partition(".")[0] for entry in steps):
        begun_ns, spans_ns, unfinished = None, [], 0
        for entry in (entry for entry in steps if entry.f.startswith(f"{store}.")):
            if entry.f.endswith(_BEGUN):
                unfinished += begun_ns is not None
                begun_ns = entry.time_ns
            elif begun_ns is not None:
                spans_ns.append(entry.time_ns - begun_ns)
                begun_ns = None
        unfinished += begun_ns is not None
        times = {0: "never to its end", 1: "once"}.get(len(spans_ns), f"{len(spans_ns)} times")
        longest = f", in {seconds_of(max(spans_ns)):.3f} s at most" if spans_ns else ""
        more = f" (begun {unfinished} times more)" if unfinished else ""
        yield from paragraph(f"{store} was made again from the commit log {times}{longest}{more}", "  ", "    ")
