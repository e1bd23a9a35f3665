from __future__ import annotations

import json
from typing import NoReturn

import pytest

from chaos.cli.outcome import answering, exit_code_of, told
from chaos.errors import EnvironmentUnavailable, HarnessError, HealFailed, NothingSelected, PlanError, Problem

PROBLEM = Problem("a.py", 3, "Kill(target='x') must be one of worker", "change target", "unknown-target")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PlanError([PROBLEM]), 2, "a.py:3: Kill(target='x') must be one of worker; change target [unknown-target]"),
        (NothingSelected("no experiment was found in x"), 5, "no experiment was found in x"),
        (EnvironmentUnavailable("no server", "install one"), 4, "no server; install one"),
        (HarnessError("the proxy ended"), 70, "the harness failed: the proxy ended"),
        (HealFailed("f0 is still there"), 70, "f0 is still there"),
        (ZeroDivisionError("division by zero"), 70, "this is a fault of the harness"),
    ],
)
def test_every_error_has_a_code_and_words(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three families never mix: plan, environment and harness have codes of their own."""

    @answering
    def verb(*, as_json: bool) -> NoReturn:
        raise error

    assert verb(as_json=True) == code == exit_code_of(error)
    out, err = capsys.readouterr()
    assert said in err
    document = json.loads(out)
    assert document["exit_code"] == code
    assert document["error"] == str(error)


def test_only_the_unexpected_has_a_traceback() -> None:
    """An error that was raised on purpose says all by itself; any other needs its frames."""
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018  # for its frames
    assert "Traceback" in told(caught.value)
    assert "Traceback" not in told(HarnessError("known"))
