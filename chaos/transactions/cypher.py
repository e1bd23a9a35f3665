"""Which labels and relationship tables a statement of Cypher reads and writes, told from its words.

A pattern without a label may mean anything, and so does the deletion of a node with all its relationships. Coarse on
purpose: a reader of a label sees all of it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from chaos.transactions.granules import Read, Write, labels_read, labels_written

_NO_CODE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/""", re.DOTALL)
_MAP = re.compile(r"\{[^{}]*\}")
_LABEL = re.compile(r"[:|]\s*`?([A-Za-z_]\w*)`?")
_PATTERN = re.compile(r"(?<![\w`])[(\[]\s*(\w*)\s*([^()\[\]]*)[)\]]")
_BARE_EDGE = re.compile(r"\)\s*<?-{1,2}>?\s*\(")
_CHANGE = re.compile(r"\b(SET|DELETE|REMOVE|MERGE)\b", re.IGNORECASE)
_CREATE = re.compile(r"\b(?:CREATE|MERGE|SET|DELETE|REMOVE)\b", re.IGNORECASE)
_DETACH = re.compile(r"\bDETACH\b", re.IGNORECASE)
_CALL = re.compile(r"\b(?:CALL|COPY|LOAD)\b", re.IGNORECASE)


@lru_cache(maxsize=4096)
def reads(cypher: str) -> tuple[Read, ...]:
    """Return what a reading statement reads."""
    return labels_read(_labels(_bare(cypher)))


@lru_cache(maxsize=4096)
def writes(cypher: str) -> tuple[Write, ...]:
    """Return what a writing statement writes: what it creates, or all that it names when it changes or deletes."""
    text = _bare(cypher)
    if _DETACH.search(text):
        return labels_written(None)
    if _CHANGE.search(text):
        return labels_written(_labels(text))
    begin = _CREATE.search(text)
    return labels_written(_labels(text[begin.start() :], known=_named(text)) if begin else None)


@lru_cache(maxsize=4096)
def only_creates(cypher: str) -> bool:
    """Tell whether a statement adds nodes or relationships and changes none that are there."""
    return not _CHANGE.search(_bare(cypher))


def _bare(cypher: str) -> str:
    """Return the statement without strings, comments and property maps."""
    text, before = _NO_CODE.sub("''", cypher), ""
    while text != before:
        text, before = _MAP.sub("", text), text
    return text


def _named(text: str) -> set[str]:
    """Return the variables that a pattern gives a label."""
    return {name for name, rest in _PATTERN.findall(text) if name and _LABEL.search(rest)}


def _labels(text: str, known: set[str] = frozenset()) -> set[str] | None:  # type: ignore[assignment]  # never changed
    """Return the labels in `text`; None when some pattern has none. Variables that are `known` need none."""
    if _CALL.search(text) or _BARE_EDGE.search(text):
        return None
    named = _named(text) | known
    for name, rest in _PATTERN.findall(text):
        if not _LABEL.search(rest) and name not in named:
            return None
    found: set[str] = set()
    for _, rest in _PATTERN.findall(text):
        found.update(label.lower() for label in _LABEL.findall(rest))
    return found
