"""Words for stdout and stderr that survive streams which are closed, full, or belong to a terminal that is gone.

An exit code is a verdict. What becomes of the words must therefore never change it, with one exception: a reader of
stdout that went away ends the command, as SIGPIPE would.
"""

from __future__ import annotations

import contextlib
import os
import sys

import rich_click as click


def fill_streams() -> None:
    """Open the null device in place of standard streams that are closed.

    Otherwise the next file that is opened, a history perhaps, would get the number of stdout.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # for the rest of the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # for the rest of the process


def say(text: str, *, err: bool = False) -> None:
    """Print a line on stdout, or with `err` on stderr.

    A stream that cannot be written is silenced for the rest of the process; when it is stdout, stderr says so.
    Raises BrokenPipeError when the reader of stdout has gone away.
    """
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        silence(err=err)
        if not err:
            raise
    except OSError as error:
        if err:
            silence(err=True)
        else:
            give_up_stdout(error)


def give_up_stdout(error: OSError) -> None:
    """Silence stdout, and say why on stderr."""
    silence(err=False)
    say(f"stdout cannot be written: {error.strerror or error}", err=True)


def settle() -> None:
    """Write out what stdout and stderr still hold back. Raises BrokenPipeError as `say` does."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(err=False)
        raise
    except (OSError, ValueError):
        silence(err=False)
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()


def silence(*, err: bool) -> None:
    """Point stdout, or with `err` stderr, at the null device, so that nothing fails there any more, even at exit."""
    stream = sys.stderr if err else sys.stdout
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
