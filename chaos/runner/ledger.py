"""The heal ledger: every fault is on disk before it is applied, and again when it is healed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from chaos.errors import EnvironmentUnavailable, HarnessError

State = Literal["intended", "applied", "healed", "heal_failed", "skipped"]


class Ledger:
    """faults.jsonl: intended (synced before the fault is applied), applied, then healed with the evidence."""

    def __init__(
        self, path: Path, clock_ns: Callable[[], int] = time.monotonic_ns, *, start_ns: int | None = None
    ) -> None:
        """Create the file; times are nanoseconds since `start_ns` of that clock, None: since this moment."""
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EnvironmentUnavailable(f"cannot write {path}: {error.strerror}", "use --out DIR") from error
        self._clock_ns = clock_ns
        self._start_ns = clock_ns() if start_ns is None else start_ns

    def write(self, fault_id: str, state: State, details: Mapping[str, Any]) -> None:
        """Append one line; an intention is also synced, so that it is there whatever happens next.

        Raises HarnessError when the disk refuses it.
        """
        line = {"time_ns": self._clock_ns() - self._start_ns, "fault": fault_id, "state": state, **details}
        try:
            os.write(self._descriptor, msgspec.json.encode(line) + b"\n")
            if state == "intended":
                os.fsync(self._descriptor)
        except OSError as error:
            raise HarnessError(f"cannot write the heal ledger: {error.strerror}; free some space") from error

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
