from __future__ import annotations

import shlex
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from chaos.report.layout import WIDTH, command, paragraph, table


@given(st.lists(st.text(alphabet="ab-/.' $\"", min_size=1, max_size=30), min_size=1, max_size=20))
def test_a_broken_command_is_still_the_same_command(words: list[str]) -> None:
    """However long, the printed command parses to the words it was made of."""
    printed = "\n".join(command(shlex.join(words)))
    assert shlex.split(printed.replace(" \\\n", " ")) == words


def test_a_short_command_stays_on_one_line() -> None:
    """Nothing is broken without need."""
    assert list(command("chaos run a.py --seed 1")) == ["  chaos run a.py --seed 1"]


@given(st.text(max_size=400))
def test_paragraphs_keep_to_the_page(text: str) -> None:
    """Any text is wrapped within the width, without control characters."""
    lines = list(paragraph(text, "    "))
    assert all(len(line) <= WIDTH for line in lines)
    assert not any(unicodedata.category(letter) == "Cc" for line in lines for letter in line)


def test_columns_line_up_and_wide_cells_are_cut() -> None:
    """A table is aligned, and its widest column gives way first."""
    lines = list(table(("name", "what"), [("a", "x" * 200), ("bb", "y")], ""))
    assert lines[0] == "name  what"
    assert lines[1] == f"a     {'x' * 91}..."
    assert lines[2] == "bb    y"
