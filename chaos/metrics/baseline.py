"""Baselines: what this very machine measured before, by figure. A number of another machine is no baseline."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos.metrics.regression import Comparison, compare

KEPT = 20
"""Values kept of each figure, the newest."""


def fingerprint() -> str:
    """Return twelve letters that stand for this kind of machine: processor, cores, memory, system, Python.

    No name and no path goes into it, so it tells nobody whose machine it is.
    """
    parts = (
        platform.machine(),
        _processor(),
        str(os.cpu_count()),
        str(round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)),
        platform.system(),
        ".".join(platform.python_version_tuple()[:2]),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


class Baselines:
    """Files `<folder>/<fingerprint>.json`: by figure, its values so far, oldest first."""

    def __init__(self, folder: Path, machine: str | None = None) -> None:
        """Read those of `machine`, this one by default; a file that is not there holds nothing."""
        self._path = folder / f"{machine or fingerprint()}.json"
        try:
            self._values: dict[str, list[float]] = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._values = {}

    def compare(self, figure: str, new: Sequence[float], *, limit: float | None = None) -> Comparison | None:
        """Compare `new` with what is kept of `figure`; None when nothing is. See `regression.compare`."""
        base = self._values.get(figure)
        return compare(base, new, limit=limit) if base else None

    def keep(self, values: Mapping[str, Sequence[float]]) -> None:
        """Add values to those of their figures, forget the oldest, and write the file."""
        for figure, new in values.items():
            self._values[figure] = [*self._values.get(figure, []), *new][-KEPT:]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps(self._values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        draft.replace(self._path)
