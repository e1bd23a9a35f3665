"""The table of calls: what a name means, and which errors may come from it."""

from __future__ import annotations

import pytest

from chaos.faults.disk.calls import ERRORS, table


def test_rows_are_calls_with_known_errors() -> None:
    """Each call has its own bit below 64, a page, and only errors that a rule may inject."""
    calls = table().calls
    assert [call.bit for call in calls] == list(range(len(calls)))
    assert len(calls) <= 64
    for call in calls:
        assert call.manual.endswith((")",))
        assert call.errors
        assert set(call.errors) <= set(ERRORS)


def test_no_symbol_is_declared_twice() -> None:
    """A libc symbol counts as one call only."""
    symbols = [symbol for call in table().calls for symbol in call.symbols] + list(table().tracked)
    assert len(symbols) == len(set(symbols))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sync", {"fsync", "fdatasync", "sync_file_range", "syncfs"}),
        ("fdatasync", {"fdatasync"}),
        ("pwrite64", {"pwrite"}),
        ("__open_2", {"open"}),
        ("write", {"write", "pwrite", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"}),
        ("remove", {"remove"}),
        ("dup2", set()),
        ("fopen64", {"fopen"}),
        ("stat", set()),
    ],
)
def test_find(name: str, expected: set[str]) -> None:
    """A family means all its calls, a twin means its call, and what no fault can name is unknown."""
    assert {call.name for call in table().find(name)} == expected


def test_mask_leaves_out_calls_that_cannot_fail_so() -> None:
    """With an error, a family stands for those of its calls that can report it."""
    able = table().mask(["sync"], "EDQUOT")
    assert able == table().mask(["fsync", "fdatasync", "syncfs"])
    assert able != table().mask(["sync"])


@pytest.mark.parametrize(("name", "error"), [("fsync", "EMFILE"), ("no_such_call", None)])
def test_mask_refuses(name: str, error: str | None) -> None:
    """An unknown name, and an error that a call never reports, are refused by name."""
    with pytest.raises(ValueError, match=name):
        table().mask([name], error)
