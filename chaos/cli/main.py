"""The command `chaos`: how whatever happens becomes an exit code.

Nothing is imported here that takes time, so that a Ctrl-C during the imports has its own code too.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from chaos.exit_codes import ExitCode

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name, None for that of the process.

    Verbs answer their own errors (`chaos.cli.outcome`); here remain wrong usage, Ctrl-C outside of a run, and what
    nobody foresaw, which is a failure of the harness. Python's own code for it would be 1, that of a failed check.
    """
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        return _answered(words)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BaseException as error:  # noqa: BLE001  # never Python's own exit code
        return _unforeseen(error)


def _answered(words: Sequence[str]) -> int:
    """Run the command and return its code; raises what is neither wrong usage nor an interruption."""
    from chaos.cli.speech import fill_streams, give_up_stdout, settle

    fill_streams()
    import rich_click as click

    from chaos.cli.verbs import chaos

    try:
        code = chaos.main(args=list(words) or ["--help"], prog_name="chaos", standalone_mode=False)
        settle()
    except click.ClickException as error:
        _show(error)
        return int(ExitCode.USAGE)
    except click.Abort:
        return _INTERRUPTED
    except OSError as error:  # from click's own printing (--help, --version): a verb answers its errors itself
        if error.errno == errno.EPIPE:
            raise
        give_up_stdout(error)
        code = int(ExitCode.PASS)
    if not words:
        return int(ExitCode.USAGE)
    return code if isinstance(code, int) else int(ExitCode.PASS)


def _show(error: object) -> None:
    """Let click tell of wrong usage on stderr, wherever that leads."""
    from chaos.cli.speech import silence

    try:
        error.show()  # type: ignore[attr-defined]  # a ClickException; its module is not imported at the top
    except OSError:
        silence(err=True)


def _unforeseen(error: BaseException) -> int:
    """Return the code of a command that ended with `error`, and tell of it where that is still possible."""
    # click answers a broken pipe of its own printing (--help, --version) with SystemExit(1).
    causes = [one for one in (error, error.__context__) if isinstance(one, OSError)]
    if any(one.errno == errno.EPIPE for one in causes):
        _to_null(1)
        return _BROKEN_PIPE
    try:
        traceback.print_exception(error, limit=-5)
    except OSError:
        _to_null(2)
    return int(ExitCode.HARNESS)


def _to_null(number: int) -> None:
    """Point a standard stream at the null device, so that Python's last flush cannot change the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
