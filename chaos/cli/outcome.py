"""How what a verb raises is told and becomes an exit code."""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec

import rich_click as click
from click.exceptions import Exit

from chaos.cli.speech import say, settle
from chaos.errors import ChaosError, EnvironmentUnavailable, NothingSelected, PlanError
from chaos.exit_codes import ExitCode

P = ParamSpec("P")
BROKEN_PIPE = 141
"""The code of a command whose reader of stdout went away: what a shell makes of SIGPIPE."""

_FRAMES = 5
_STORED = ("not-a-run", "malformed-plan", "malformed-history", "malformed-wire")


def answering(verb: Callable[P, int]) -> Callable[P, int]:
    """Wrap a verb: errors go to stderr in words and become an exit code.

    With its parameter `as_json` True, stdout gets one JSON document that says the same. A reader of stdout
    that went away ends the command with 141, as SIGPIPE would; other troubles of stdout and stderr change no code.
    """

    @functools.wraps(verb)
    def _answered(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            try:
                code = verb(*args, **kwargs)
            except (click.ClickException, Exit, click.Abort, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001  # whatever it is, the exit code must not look like a finding
                code = exit_code_of(error)
                say(told(error), err=True)
                if kwargs.get("as_json"):
                    echo_json(error_json(error))
            settle()
        except BrokenPipeError:
            return BROKEN_PIPE
        return code

    return _answered


def exit_code_of(error: Exception) -> int:
    """Return the exit code of a command that ended with `error`."""
    match error:
        case PlanError():
            return int(ExitCode.USAGE)
        case NothingSelected():
            return int(ExitCode.NOTHING_SELECTED)
        case EnvironmentUnavailable():
            return int(ExitCode.NOT_STARTED)
    return int(ExitCode.HARNESS)


def told(error: Exception) -> str:
    """Return what stderr says about `error`; a traceback only where the harness is to blame."""
    match error:
        case PlanError():
            count = len(error.problems)
            tail = "" if _stored(error) else "; nothing was started"
            return f"{error}\n{count} {'problem' if count == 1 else 'problems'}{tail}"
        case NothingSelected():
            return f"{error}; nothing was started"
        case EnvironmentUnavailable():
            return f"not started: {error}"
        case ChaosError():
            return f"the harness failed: {error}"
    frames = traceback.format_exception(error, limit=-_FRAMES)
    return f"{''.join(frames)}this is a fault of the harness, not of the system under test; please report it"


def _stored(error: PlanError) -> bool:
    """Tell whether the problems are all in a stored run, where nothing would have been started anyway."""
    return all(problem.slug in _STORED for problem in error.problems)


def error_json(error: Exception) -> dict[str, Any]:
    """Return the same as a JSON value."""
    document: dict[str, Any] = {"exit_code": exit_code_of(error), "error": str(error)}
    if isinstance(error, PlanError):
        names = ("file", "line", "text", "remedy", "slug")
        document["problems"] = [{name: getattr(problem, name) for name in names} for problem in error.problems]
    return document


def echo_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    say(json.dumps(document, indent=2, ensure_ascii=False))
