from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.errors import HarnessError
from chaos.history.reader import read
from chaos.history.writer import HistoryWriter


class Clock:
    """A clock that a test moves by hand, in nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 5_000

    def __call__(self) -> int:
        """Return the time that the test set."""
        return self.now_ns


def test_entries_are_numbered_and_timed_from_creation(tmp_path: Path) -> None:
    """The writer gives indexes from 0 and times since it was made, and returns what it wrote."""
    clock = Clock()
    writer = HistoryWriter(tmp_path / "history.jsonl", clock)
    first = writer.append("event", "load_started", value={})
    clock.now_ns += 70
    second = writer.append("event", "load_stopped", value={})
    writer.close()
    assert writer.start_ns == 5_000
    assert [(first.index, first.time_ns), (second.index, second.time_ns)] == [(0, 0), (1, 70)]
    assert read(tmp_path / "history.jsonl").entries == (first, second)


def test_an_entry_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    """Nothing is buffered: the line is readable before the writer is closed."""
    path = tmp_path / "history.jsonl"
    writer = HistoryWriter(path)
    writer.append("event", "all_healed", value={})
    assert path.read_bytes().endswith(b'"f":"all_healed","value":{}}\n')
    writer.close()


def test_sigkill_right_after_append_loses_nothing(tmp_path: Path) -> None:
    """A writer that kills itself in the instant after append leaves every entry readable."""
    path = tmp_path / "history.jsonl"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from chaos.history.writer import HistoryWriter\n"
        "writer = HistoryWriter(Path(sys.argv[1]))\n"
        "for number in range(200):\n"
        "    writer.append('event', 'note', value={'number': number})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=30)
    assert done.returncode == -signal.SIGKILL
    history = read(path)
    assert [entry.value["number"] for entry in history.entries] == list(range(200))
    assert history.torn is None


def test_closing_twice_is_harmless_and_appending_then_is_refused(tmp_path: Path) -> None:
    """close() is idempotent; a later append says that the history is closed and writes nothing."""
    writer = HistoryWriter(tmp_path / "history.jsonl")
    writer.close()
    writer.close()
    with pytest.raises(HarnessError, match="is closed"):
        writer.append("event", "load_started")
    assert writer.path.read_bytes() == b""


def test_another_runs_file_is_not_touched(tmp_path: Path) -> None:
    """A path that already holds bytes is refused, and the bytes stay."""
    path = tmp_path / "history.jsonl"
    path.write_text("precious")
    with pytest.raises(HarnessError, match="8 bytes of another run"):
        HistoryWriter(path)
    assert path.read_text() == "precious"


def test_a_missing_folder_is_reported_with_a_remedy(tmp_path: Path) -> None:
    """A folder that is not there is named, with what to do."""
    with pytest.raises(HarnessError, match=r"nowhere.*cannot be written.*--out"):
        HistoryWriter(tmp_path / "nowhere" / "history.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_says_what_to_do() -> None:
    """ENOSPC becomes a HarnessError that names the file and the way out."""
    writer = HistoryWriter(Path("/dev/full"))
    with pytest.raises(HarnessError, match=r"/dev/full: no room for the history.*free some space.*--out"):
        writer.append("event", "load_started")
    writer.close()


def test_a_line_that_only_partly_fits_is_taken_back(tmp_path: Path) -> None:
    """When the kernel takes half a line and then no more, the file ends with the last whole line."""
    path = tmp_path / "history.jsonl"
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from chaos.errors import HarnessError\n"
        "from chaos.history.writer import HistoryWriter\n"
        "writer = HistoryWriter(Path(sys.argv[1]))\n"
        "writer.append('event', 'note', value={'text': 'short'})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "try:\n"
        "    writer.append('event', 'note', value={'text': 'x' * 500})\n"
        "except HarnessError as error:\n"
        "    print(error)\n"
        "writer.append('event', 'note', value={'text': 'fits'})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, timeout=30, capture_output=True, text=True
    )
    assert "no room for the history" in done.stdout
    assert [entry.value["text"] for entry in read(path).entries] == ["short", "fits"]


def test_a_value_that_is_not_json_is_refused_before_it_is_written(tmp_path: Path) -> None:
    """An object in a value is the harness's mistake: it is named, and the next index is unchanged."""
    writer = HistoryWriter(tmp_path / "history.jsonl")
    with pytest.raises(HarnessError, match=r"entry 0 \(event note\) is not plain JSON"):
        writer.append("event", "note", value=object())
    assert writer.append("event", "note").index == 0
    writer.close()


def test_an_error_text_that_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    """Lone surrogates, as in undecodable file names, are escaped instead of losing the entry."""
    writer = HistoryWriter(tmp_path / "history.jsonl")
    writer.append("info", "note", error=os.fsdecode(b"bad \xff name"))
    writer.close()
    assert b"bad \\\\udcff name" in writer.path.read_bytes()
