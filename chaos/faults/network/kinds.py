"""The kinds of toxics a proxy knows. A new kind is a file beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.errors import HarnessError
from chaos.faults.network.disconnect import DisconnectToxic
from chaos.faults.network.latency import LatencyToxic
from chaos.faults.network.partition import PartitionToxic
from chaos.faults.network.refuse import RefuseToxic
from chaos.faults.network.toxic import Toxic

TOXICS: Mapping[str, type[Toxic]] = {
    toxic.kind: toxic for toxic in (DisconnectToxic, LatencyToxic, PartitionToxic, RefuseToxic)
}


def make_toxic(kind: str, arguments: Mapping[str, Any]) -> Toxic:
    """Return a new toxic. Raises HarnessError for an unknown kind or arguments that it does not take."""
    if kind not in TOXICS:
        raise HarnessError(f"kind={kind!r} must be one of {', '.join(sorted(TOXICS))}")
    try:
        return TOXICS[kind](**arguments)
    except TypeError as error:
        raise HarnessError(f"{kind}: arguments={dict(arguments)!r} do not fit: {error}") from error
