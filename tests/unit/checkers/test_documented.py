from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("docs/reference/history.md",)
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_documented_code_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every Python block of the reference runs as it stands, on a stored history instead of the latest."""
    blocks = BLOCK.findall((ROOT / page).read_text())
    assert blocks
    for block in blocks:
        code = block.replace("runs/latest/", f"{ROOT}/tests/gold/text/partition/")
        exec(compile(code, page, "exec", dont_inherit=True), {})  # our own page


def test_every_check_is_documented() -> None:
    """The table of checks has a row for each, and no other."""
    from chaos.checkers import known

    page = (ROOT / "docs/reference/checks.md").read_text()
    table = page[: page.index("## Fates")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [check.name for check in known()]
