"""Cutting an append-only file that its server refuses, with the server's own tool, as an operator would.

A power loss may leave an end of zeros, or with holes. The server then does not start, and its message names the tool,
`valkey-check-aof --fix`, which cuts the file back to the last whole command. The tool is the server's program under
another name. It is given the last file by itself: given the manifest, valkey 9.1 takes its own RDB base for damaged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 5.0
REFUSAL = "Bad file format reading the append only file"
"""What the server's log says when it does not understand the file."""


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
    files = folder.glob("appendonlydir/*.incr.aof")
    return max(files, key=lambda path: int(path.name.split(".")[-3]), default=None)


def _size(file: Path) -> int:
    return file.stat().st_size
