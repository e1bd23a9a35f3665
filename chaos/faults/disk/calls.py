"""The libc calls that file faults can name, read from the shim's own table (shim/calls.def)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).resolve().parent / "shim" / "calls.def"

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EMFILE", "EROFS", "EINTR", "EACCES")
"""The error numbers that a rule may inject; each call allows some of them."""

_ROW = re.compile(r"^(CALL|SAME|VARIANT|TRACK)\((.*)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """One libc call that a rule can name.

    `bit` is its place in a rule's call mask; `symbols` are all libc symbols that count as this call, its own
    name first; `errors` are the errnos it may be made to fail with, from `manual`, a page such as "write(2)".
    """

    bit: int
    name: str
    family: str
    symbols: tuple[str, ...]
    manual: str
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All rows: `calls` in bit order, and the symbols that are hooked for bookkeeping only."""

    calls: tuple[Call, ...]
    tracked: tuple[str, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """The families in the table's order."""
        return tuple(dict.fromkeys(call.family for call in self.calls))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a rule may use: families first, then calls."""
        return tuple(dict.fromkeys((*self.families, *(call.name for call in self.calls))))

    def find(self, name: str) -> tuple[Call, ...]:
        """Return the calls meant by a family or by any libc symbol; empty when the name is unknown.

        A family wins over a call of the same name: "write" is every kind of write, as "open" is every kind
        of open. A 64-bit twin or checked form means the call that it is a form of.
        """
        return tuple(call for call in self.calls if call.family == name) or tuple(
            call for call in self.calls if name in call.symbols
        )

    def mask(self, names: Iterable[str], error: str | None = None) -> int:
        """Return the bit mask of the calls named; with `error`, only those that can fail with it.

        Raises ValueError for an unknown name, and for one of which no call can fail with `error`.
        """
        mask = 0
        for name in names:
            found = self.find(name)
            if not found:
                raise ValueError(f"call={name!r} is not one of {', '.join(self.names)}")
            able = [call for call in found if error is None or error in call.errors]
            if not able:
                raise ValueError(f"{name} cannot fail with {error}; it can with {', '.join(found[0].errors)}")
            for call in able:
                mask |= 1 << call.bit
        return mask


def _parse(text: str) -> Table:
    rows = [(kind, [part.strip().strip('"') for part in body.split(",")]) for kind, body in _rows(text)]
    forms: dict[str, list[str]] = {}
    for kind, fields in rows:
        if kind in {"SAME", "VARIANT"}:
            forms.setdefault(fields[1], []).append(fields[0])
    declared = [fields for kind, fields in rows if kind == "CALL"]
    calls = tuple(
        Call(bit, name, family, (name, *forms.get(name, ())), manual, tuple(errors))
        for bit, (name, family, _shape, manual, *errors) in enumerate(declared)
    )
    tracked = [fields[0] for kind, fields in rows if kind == "TRACK"]
    return Table(calls, tuple(symbol for name in tracked for symbol in (name, *forms.get(name, ()))))


def _rows(text: str) -> Iterator[tuple[str, str]]:
    for match in _ROW.finditer(text):
        yield match[1], match[2]


@cache
def table() -> Table:
    """Read shim/calls.def; the result is shared and never changes."""
    return _parse(TABLE.read_text(encoding="ascii"))


def reference() -> str:
    """Return docs/reference/shim-calls.md: the page that lists what the shim hooks, made from the table."""
    rows = [
        f"| `{call.name}` | {call.family} | {_code(call.symbols[1:])} | {_code(call.errors)} | {call.manual} |"
        for call in table().calls
    ]
    return "\n".join((_HEAD, *rows, _TAIL.format(tracked=_code(table().tracked))))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


_HEAD = """# Calls the file shim takes over

Made from `chaos/faults/disk/shim/calls.def` by `chaos.faults.disk.calls.reference()`; a test compares the two.

A fault's `call` is a family (all its rows) or a call (one row, with its other forms). Where a family and a call
share a name, the name means the family. The errors are those that a fault may inject, with the manual page that
says when the call reports them.

| Call | Family | Other symbols that count as it | Errors | Page |
| --- | --- | --- | --- | --- |"""

_TAIL = """
Hooked only so that descriptors are known for what they are; no fault can name them: {tracked}.
"""
