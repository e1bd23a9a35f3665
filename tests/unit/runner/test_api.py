"""Signals around a run: none is lost, whenever it comes."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from chaos.runner import api
from chaos.runner.result import RunResult


class _LastStep:
    """Stands for a run that gets `number` in its very last step, with no await after it, as when it is judging."""

    def __init__(self, number: int, code: int = 0) -> None:
        self._number = number
        self._code = code

    async def execute(self) -> RunResult:
        """Send the signal to this process, and pass."""
        await asyncio.sleep(0)
        os.kill(os.getpid(), self._number)
        return RunResult("one", 1, "pass", self._code, None, (), "", "again")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_last_step_of_a_run_is_in_its_exit_code(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict stands, the exit code is 128 + n, and the handlers of before are back."""
    before = signal.getsignal(number)
    unused: Any = None
    monkeypatch.setattr(api, "Run", lambda *_: _LastStep(number))
    result = api.run_blocking(unused, unused)
    assert (result.verdict, result.exit_code) == ("pass", 128 + number)
    assert result.signal == number
    assert signal.getsignal(number) is before


def test_a_signal_does_not_hide_what_could_not_be_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 + n promises that everything was healed; the series ends all the same."""
    unused: Any = None
    monkeypatch.setattr(api, "Run", lambda *_: _LastStep(signal.SIGTERM, 6))
    result = api.run_blocking(unused, unused)
    assert (result.exit_code, result.signal) == (6, signal.SIGTERM)
