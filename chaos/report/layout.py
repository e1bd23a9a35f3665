"""Plain text in at most WIDTH columns: wrapping, tables, headings. No colour, so that it reads anywhere."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence

WIDTH = 100
_GAP = 2
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Return `text` on one line without control characters; a store's error message may hold any."""
    return _UNPRINTABLE.sub("?", " ".join(text.split()))


def paragraph(text: str, indent: str = "", hang: str | None = None) -> Iterator[str]:
    """Yield `text` wrapped; the first line starts with `indent`, the others with `hang` (None: the same)."""
    yield from textwrap.wrap(
        clean(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hang is None else hang,
        break_on_hyphens=False,
    )


def heading(text: str) -> Iterator[str]:
    """Yield an empty line and a heading."""
    yield ""
    yield text.upper()


def labelled(label: str, text: str, width: int, indent: str = "") -> Iterator[str]:
    """Yield a wrapped text beside a label that takes `width` columns."""
    start = f"{indent}{label:<{width}}"
    yield from paragraph(text, start, " " * len(start)) if text.strip() else iter([start.rstrip()])


def table(head: Sequence[str], lines: Sequence[Sequence[str]], indent: str = "  ") -> Iterator[str]:
    """Yield an aligned table; a cell that would push it past WIDTH is cut and ends in "..."."""
    cells = [[clean(cell) for cell in line] for line in [head, *lines]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    room = WIDTH - len(indent) - _GAP * (len(head) - 1)
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    for line in cells:
        fitted = (_fit(cell, width) for cell, width in zip(line, widths, strict=True))
        yield (indent + (" " * _GAP).join(fitted)).rstrip()


def _fit(cell: str, width: int) -> str:
    cut = cell if len(cell) <= width else f"{cell[: max(0, width - 3)]}..."[:width]
    return cut.ljust(width)


def command(line: str, indent: str = "  ") -> Iterator[str]:
    r"""Yield a shell command, continued with backslashes, so that it can be copied as it stands.

    It is broken between words only; a single word longer than the page stays whole, because a broken path is no
    path. Text that no shell would take is given back as it is.
    """
    try:
        words = [shlex.quote(word) for word in shlex.split(line)]
    except ValueError:
        words = [line]
    current = indent + (words[0] if words else "")
    for word in words[1:]:
        if len(current) + len(word) + 3 > WIDTH:
            yield f"{current} \\"
            current = indent + "  " + word
        else:
            current += " " + word
    yield current
