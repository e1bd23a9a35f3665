"""What the workload had been told at each operation: which transactions were begun, acknowledged, given up.

The workload says so itself, with markers in the operation log: `begin T`, `acknowledged T`, `aborted T`, `phase NAME`,
where T is a name without blanks. A marker comes from deleting a file that does not exist: its path is the data folder,
`.chaos-marker`, and the text. So any program in any language can tell, and the order with the stores' own operations
is exact.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from chaos.faults.disk.oplog import Kind, Operation, marker_path


@dataclass(frozen=True, slots=True)
class Promise:
    """What is known to the outside. Transactions that were acknowledged or aborted are in `begun` as well."""

    begun: frozenset[str] = frozenset()
    acknowledged: frozenset[str] = frozenset()
    aborted: frozenset[str] = frozenset()
    phase: str = ""

    def told(self, text: str) -> Promise:
        """Return the promise after a marker; other texts than the four known ones change nothing."""
        word, _, name = text.partition(" ")
        match word:
            case "begin":
                return replace(self, begun=self.begun | {name}, aborted=self.aborted - {name})
            case "acknowledged":
                return replace(self, acknowledged=self.acknowledged | {name}, begun=self.begun | {name})
            case "aborted":
                return replace(self, aborted=self.aborted | {name})
            case "phase":
                return replace(self, phase=name)
        return self


class Teller:
    """Emits markers from inside a recorded program whose data folder is `data`."""

    def __init__(self, data: Path) -> None:
        """Nothing is told yet."""
        self._data = data

    def begin(self, name: str) -> None:
        """Say that the transaction may now take effect."""
        self._tell(f"begin {name}")

    def acknowledged(self, name: str) -> None:
        """Say that the client was told that it is committed."""
        self._tell(f"acknowledged {name}")

    def aborted(self, name: str) -> None:
        """Say that the client was told that it did not happen."""
        self._tell(f"aborted {name}")

    def phase(self, name: str) -> None:
        """Say what the workload does from here on; it only helps people."""
        self._tell(f"phase {name}")

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            marker_path(self._data, text).unlink()  # the shim sees the call; without it there is no such file


def promises(operations: Iterable[Operation], first: Promise = Promise()) -> list[Promise]:
    """Return the promise at every boundary: before the first operation, and after each."""
    found = [first]
    for operation in operations:
        last = found[-1]
        found.append(last.told(operation.name) if operation.kind is Kind.MARKER else last)
    return found
