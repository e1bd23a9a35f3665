"""What every kind of experiment is called by: an id, a hypothesis and tags, and what these must look like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from chaos.errors import Problem

ID_LENGTH_MAX = 60
_WORDS = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NEXT_SENTENCE = re.compile(r"[.!?]\s+[A-Z]")


def naming_problems(value: Any) -> Iterator[Problem]:
    """Yield the mistakes in the `id`, `hypothesis` and `tags` of a declared value."""
    yield from _bad_id(value)
    text = value.hypothesis.strip() if isinstance(value.hypothesis, str) else ""
    if not text.endswith((".", "!")) or _NEXT_SENTENCE.search(text):
        yield value.problem(
            f"hypothesis={value.hypothesis!r}) must be one sentence that ends with a full stop",
            "say in one sentence what must hold under these faults",
            "bad-hypothesis",
        )
    for tag in value.tags if isinstance(value.tags, list | tuple) else ():
        if isinstance(tag, str) and not _WORDS.fullmatch(tag):
            yield value.problem(
                f"tags=...{tag!r}...) must be lowercase words joined by dashes", "rename the tag", "bad-tag"
            )


def _bad_id(value: Any) -> Iterator[Problem]:
    if not isinstance(value.id, str) or not _WORDS.fullmatch(value.id):
        yield value.problem(
            f"id={value.id!r}) must be lowercase words joined by dashes", 'write for example "redis-cut"', "bad-id"
        )
    elif len(value.id) > ID_LENGTH_MAX:
        yield value.problem(
            f"id={value.id!r}) must have at most {ID_LENGTH_MAX} characters, not {len(value.id)}",
            "shorten it",
            "long-id",
        )
