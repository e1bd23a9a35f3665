"""Removes every file of a folder in a process of its own. `python -m chaos.runner.eraser FOLDER`.

That process is under the file shim, as those of the stores are: where a log of file operations is kept, the removal is
in it, and a power loss that comes later knows of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from chaos._process import Child, die_with_parent, spawn_python
from chaos.errors import EnvironmentUnavailable

TIMEOUT_S = 10.0


async def erase(
    folder: Path, *, log: Path, environment: Mapping[str, str], on_child: Callable[[Child], None]
) -> dict[str, int]:
    """Remove what is in `folder`, durably; return files_removed and bytes_lost. Nobody may be writing there.

    environment: what loads the file shim; empty: none. on_child: hears of the process. Raises EnvironmentUnavailable
    when it does not end well. Cancellation: the removal may be half done, and goes on.
    """
    sizes = _sizes(folder)
    child = spawn_python("eraser", "chaos.runner.eraser", [str(folder)], log=log, environment=environment)
    on_child(child)
    if await child.wait(TIMEOUT_S) != 0:
        await child.kill()
        raise EnvironmentUnavailable(f"the files of {folder} could not be removed", f"read {log}")
    return {"files_removed": len(sizes), "bytes_lost": sum(sizes)}


def _sizes(folder: Path) -> list[int]:
    return [file.stat().st_size for file in folder.rglob("*") if file.is_file()]


def _empty(folder: Path) -> None:
    """Unlink what is in a folder, what is in its folders first, and sync the names that are left: none."""
    for entry in list(folder.iterdir()):
        if entry.is_dir():
            _empty(entry)
            entry.rmdir()
        else:
            entry.unlink()
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    os.fsync(descriptor)
    os.close(descriptor)


def main() -> None:
    """Entry point of the process."""
    die_with_parent()
    _empty(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
