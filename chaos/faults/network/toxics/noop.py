"""Noop: the connection goes through the slow path of the proxy, and nothing else happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from chaos.faults.network.connection import Connection
from chaos.faults.network.declared import PathFault
from chaos.faults.network.end import Item
from chaos.faults.network.link import Link, Stage
from chaos.faults.network.toxic import ApiToxic


@dataclass(frozen=True)
class Noop(PathFault):
    """Change nothing: the control of an experiment, with everything of a fault but its harm."""

    kind: ClassVar[str] = "network.noop"
    bites: ClassVar[tuple[str, ...]] = ("chunks_passed",)

    _: KW_ONLY
    side: str = "both"
    toxicity: float = 1.0

    def arguments(self) -> dict[str, Any]:
        """Return the store, the side and the share of connections."""
        return {"store": self.store, "side": self.side, "toxicity": self.toxicity}

    def beyond_toxiproxy(self) -> str | None:
        """Toxiproxy has it under the same name."""
        return None


class NoopToxic(ApiToxic):
    """The proxy's part of `Noop`, and Toxiproxy's `noop`. Evidence: chunks_passed."""

    kind: ClassVar[str] = "network.noop"
    api_type: ClassVar[str] = "noop"
    api_ranges: ClassVar[Mapping[str, tuple[int, int]]] = {}

    def stage(self, connection: Connection, link: Link) -> Stage | None:
        """Count on the links of the chosen sides."""
        return _NoopStage(self, link) if link.side in self.sides else None


class _NoopStage(Stage):
    """Passes everything on and counts."""

    def feed(self, item: Item) -> None:
        """Count a chunk and pass it on."""
        if isinstance(item, bytes):
            self.toxic.counters["chunks_passed"] += 1
        self.forward(item)
