"""What `--runtime-metrics` adds: this process as Prometheus' clients describe theirs, and what it was built from.

The names are those of the process collector of Prometheus' Go client, which Toxiproxy uses. Its go_* series tell of
Go's own runtime and have no counterpart here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from pathlib import Path

from chaos import __version__

_PROC = Path("/proc/self")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START_TICKS = 19  # of what follows the name in proc_pid_stat(5), from 0
_VIRTUAL_BYTES = 20
_RESIDENT_PAGES = 21


def lines() -> list[str]:
    """Return the series in Prometheus' text format; without /proc only those that every system tells."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "process_cpu_seconds_total": usage.ru_utime + usage.ru_stime,
        "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "process_virtual_memory_max_bytes": resource.getrlimit(resource.RLIMIT_AS)[0],
    }
    with contextlib.suppress(OSError):
        found |= _linux()
    build = f'chaos_build_info{{python="{platform.python_version()}",version="{__version__}"}}'
    told = ["# HELP chaos_build_info ", "# TYPE chaos_build_info gauge", f"{build} 1"]
    for name, value in sorted(found.items()):
        kind = "counter" if name.endswith("_total") else "gauge"
        told += [f"# HELP {name} ", f"# TYPE {name} {kind}", f"{name} {value}"]
    return told


def _linux() -> dict[str, float]:
    """Return what /proc tells of this process. Raises OSError."""
    fields = (_PROC / "stat").read_text().rpartition(")")[2].split()
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    age_s = uptime_s - int(fields[_START_TICKS]) / _TICKS_PER_S
    return {
        "process_open_fds": len(list((_PROC / "fd").iterdir())) - 1,  # less the one that lists them
        "process_resident_memory_bytes": int(fields[_RESIDENT_PAGES]) * resource.getpagesize(),
        "process_start_time_seconds": round(time.time() - age_s, 2),
        "process_virtual_memory_bytes": int(fields[_VIRTUAL_BYTES]),
    }
