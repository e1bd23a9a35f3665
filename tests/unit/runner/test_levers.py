"""What the levers of a run do to the files of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chaos.runner.levers import RunLevers


def levers(data: Path) -> RunLevers:
    """Return levers that reach nothing but files."""
    nothing: Any = None
    return RunLevers(nothing, nothing, nothing, nothing, data, nothing)


def test_bytes_are_turned_into_their_complement(tmp_path: Path) -> None:
    """Only those of the files that match, only where they are; what lies beyond a file's end is not made."""
    (tmp_path / "sqlite").mkdir()
    for name in ("main.db", "other"):
        (tmp_path / "sqlite" / name).write_bytes(b"\x00\x01\x02\x03")
    assert levers(tmp_path).corrupt("sqlite", "*.db", 2, 16) == {"files_changed": 1, "bytes_changed": 2}
    assert (tmp_path / "sqlite" / "main.db").read_bytes() == b"\x00\x01\xfd\xfc"
    assert (tmp_path / "sqlite" / "other").read_bytes() == b"\x00\x01\x02\x03"
    with pytest.raises(ProcessLookupError, match="missing"):
        levers(tmp_path).corrupt("sqlite", "missing*", 0, 1)
