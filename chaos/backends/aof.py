"""What an operator does about an append-only file that its server refuses: cut it with its own tool, or go without.

A power loss may leave an end of zeros, or with holes. The server then does not start, and its message names the tool,
`valkey-check-aof --fix`, which cuts the file back to the last whole command. The tool is the server's program under
another name. It is given the last file by itself: given the manifest, valkey 9.1 takes its own RDB base for damaged.

The tool is no help when a file that the manifest names was lost by name, or the manifest itself. Then the whole folder
is set aside, and the server starts with nothing: whoever has the data elsewhere can fill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 5.0
FOLDER = "appendonlydir"
REFUSALS = ("append only file", "append log file", "aof")
"""Words in a server's last messages when its log is what it does not start with."""


def refuses(words: str) -> bool:
    """Tell whether a server that did not start says that its append-only file is to blame."""
    return any(refusal in words.lower() for refusal in REFUSALS)


def set_aside(folder: Path) -> Path | None:
    """Rename the files of the log below `folder`; return where they are, None when there are none."""
    files = folder / FOLDER
    if not files.exists():
        return None
    number = next(number for number in itertools.count(1) if not (folder / f"{FOLDER}.refused-{number}").exists())
    return files.rename(folder / f"{FOLDER}.refused-{number}")


async def mend(program: Path, folder: Path, log: Path, environment: Mapping[str, str]) -> int:
    """Cut the newest append-only file below `folder`; return how many bytes went, 0 when it is whole or not there.

    The server must not run. Output goes to `log`. Cancellation: the tool is killed, the file cut or not.
    """
    file = _newest(folder)
    if file is None:
        return 0
    before_bytes = _size(file)
    tool = "valkey-check-aof" if "valkey" in program.name else "redis-check-aof"
    with log.open("ab", buffering=0) as output:
        process = await asyncio.create_subprocess_exec(
            tool,
            "--fix",
            str(file),
            executable=program,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TIMEOUT_S):
                    await process.communicate(b"y\n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return before_bytes - _size(file)


def _newest(folder: Path) -> Path | None:
    """Return the last increment of the log; their names end in <number>.incr.aof."""
    files = folder.glob(f"{FOLDER}/*.incr.aof")
    return max(files, key=lambda path: int(path.name.split(".")[-3]), default=None)


def _size(file: Path) -> int:
    return file.stat().st_size
