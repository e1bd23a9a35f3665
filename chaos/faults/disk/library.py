"""Finding the built shim and putting programs under it."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from chaos.errors import EnvironmentUnavailable
from chaos.faults.disk import build

_PACKAGE = "_chaosfs"
_MARK = re.compile(rb"chaosfs-source-sha256:([0-9a-f]{64})")

OVERRIDE = "CHAOS_SHIM_LIBRARY"
"""Environment variable: the library to use in place of the installed one."""

CONTROL = "CHAOS_SHIM_CONTROL"
"""Environment variable that tells a victim where its control file is."""


def find() -> Path | None:
    """Return the absolute path of the library: the override if set, else the installed one, else None."""
    override = os.environ.get(OVERRIDE)
    if override:
        path = Path(override).absolute()
        return path if path.is_file() else None
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, build.LIBRARY_NAME).absolute()
        if path.is_file():
            return path
    return None


def available() -> tuple[bool, str]:
    """Tell whether file faults can be injected here, and if not, why and what to do. Starts nothing."""
    supported, reason = build.supported()
    if not supported:
        return False, reason
    path = find()
    if path is None:
        override = os.environ.get(OVERRIDE)
        if override:
            return False, f"{OVERRIDE}={override!r} is not a file; unset it or correct it"
        return False, "the file shim was not built; install the package again (pip install -e .)"
    if built_hash(path) is None:
        return False, f"{str(path)!r} is not the file shim; install the package again (pip install -e .)"
    return True, ""


@cache
def _preloadable(path: Path) -> str:
    """Return a name of `path` that LD_PRELOAD can hold.

    It separates names by blanks and colons and knows no quoting (ld.so(8)). A path with one of them is named by
    a descriptor of this process instead, which stays open as long as we live: longer than any victim of ours.
    """
    if not re.search(r"[ :]", str(path)):
        return str(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return f"/proc/{os.getpid()}/fd/{descriptor}"


@cache
def _hash_in(path: Path, _changed_ns: int) -> str | None:
    match = _MARK.search(path.read_bytes())
    return match[1].decode() if match else None


def built_hash(path: Path) -> str | None:
    """Return the hash of the sources that the library at `path` was built from; None when it carries none."""
    return _hash_in(path, path.stat().st_mtime_ns)


def stale() -> bool:
    """Tell whether the library found was built from other sources than the ones in this tree."""
    path = find()
    return path is not None and built_hash(path) != build.source_hash()


def environment(control_path: Path | str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a victim's environment must hold in addition: LD_PRELOAD and the control file.

    A preload already in `base` (default: this process's environment) is kept, after ours, so that our hooks
    come first. Raises EnvironmentUnavailable when there is no usable library.
    """
    usable, reason = available()
    path = find()
    if not usable or path is None:
        what, _, remedy = reason.partition("; ")
        raise EnvironmentUnavailable(what, remedy or "run the experiment without file faults")
    present = (os.environ if base is None else base).get("LD_PRELOAD", "")
    name = _preloadable(path)
    others = [item for item in re.split(r"[ :]+", present) if item and item != name]
    return {"LD_PRELOAD": ":".join([name, *others]), CONTROL: str(Path(control_path).absolute())}
