from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.errors import PlanError
from chaos.history.model import Entry
from chaos.history.reader import read
from chaos.history.sketch import Sketch
from chaos.history.writer import HistoryWriter

TEXT = st.text(max_size=20).filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def written(sketch: Sketch, path: Path) -> Path:
    """Store a sketch as the writer would, and return the path."""
    path.write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in sketch.entries))
    return path


@given(st.lists(st.tuples(TEXT, JSON, st.none() | TEXT), max_size=8))
def test_what_is_written_is_what_is_read(rows: list[tuple[str, object, str | None]]) -> None:
    """Any event entry survives the way through the file unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        writer = HistoryWriter(Path(folder) / "history.jsonl")
        entries = [writer.append("event", f"note {f}", value=value, error=error) for f, value, error in rows]
        writer.close()
        history = read(writer.path)
    assert list(history.entries) == entries
    assert history.torn is None


def test_a_torn_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    """Wherever the last line was cut, what came before is read and `torn` says so."""
    path = written(Sketch().commit(0, "t0").invoke(0, "t1"), tmp_path / "history.jsonl")
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in range(start + 1, len(whole) - 1):
        path.write_bytes(whole[:end])
        history = read(path)
        assert len(history.entries) == 4
        assert history.torn == f"line 5 was cut off after {end - start} bytes and is left out"


def test_a_missing_last_line_end_tears_nothing(tmp_path: Path) -> None:
    """A last line that is whole counts even without its line end."""
    path = written(Sketch().commit(0, "t0"), tmp_path / "history.jsonl")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    history = read(path)
    assert (len(history.entries), history.torn) == (4, None)


def test_garbage_in_the_middle_is_refused_with_file_and_line(tmp_path: Path) -> None:
    """Only the end may be torn: a broken line elsewhere is named as an editor would open it."""
    path = written(Sketch().commit(0, "t0"), tmp_path / "history.jsonl")
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:-4]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(PlanError, match=r"history\.jsonl:2: is not an entry.*\[malformed-history\]"):
        read(path)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """A kind that no checker knows is not skipped over."""
    path = tmp_path / "history.jsonl"
    path.write_text('{"index":0,"time_ns":0,"kind":"maybe","f":"transact"}\n')
    with pytest.raises(PlanError, match=r"history\.jsonl:1: is not an entry.*maybe"):
        read(path)


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    """The remedy says which kind of folder to name."""
    with pytest.raises(PlanError, match=r"cannot be read.*name a run folder"):
        read(tmp_path / "history.jsonl")


def test_an_empty_file_is_an_empty_history(tmp_path: Path) -> None:
    """A run that was killed at once left nothing, and that is well-formed."""
    path = tmp_path / "history.jsonl"
    path.touch()
    assert read(path).entries == ()


def test_unknown_fields_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    """A value may hold more than this version knows."""
    path = tmp_path / "history.jsonl"
    entry = Entry(index=0, time_ns=0, kind="event", f="probe", value={"ok": True, "new": [1]})
    path.write_bytes(msgspec.json.encode(entry) + b"\n")
    assert read(path).probes[0].ok
