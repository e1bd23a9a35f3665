"""The kinds of toxics a proxy knows. A new kind is a file in `toxics` and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.errors import HarnessError
from chaos.faults.network.resp.rule import OnCommandToxic
from chaos.faults.network.toxic import ApiToxic, Toxic
from chaos.faults.network.toxics.bandwidth import BandwidthToxic
from chaos.faults.network.toxics.disconnect import DisconnectToxic
from chaos.faults.network.toxics.drop_syn import DropSynToxic
from chaos.faults.network.toxics.flapping import FlappingToxic
from chaos.faults.network.toxics.latency import LatencyToxic
from chaos.faults.network.toxics.limit import LimitToxic
from chaos.faults.network.toxics.loss import LossToxic
from chaos.faults.network.toxics.noop import NoopToxic
from chaos.faults.network.toxics.partition import PartitionToxic
from chaos.faults.network.toxics.refuse import RefuseToxic
from chaos.faults.network.toxics.reset_on_accept import ResetOnAcceptToxic
from chaos.faults.network.toxics.reset_peer import ResetPeerToxic
from chaos.faults.network.toxics.slicer import SlicerToxic
from chaos.faults.network.toxics.slow_accept import SlowAcceptToxic
from chaos.faults.network.toxics.slow_close import SlowCloseToxic
from chaos.faults.network.toxics.timeout import TimeoutToxic

_API_KINDS: tuple[type[ApiToxic], ...] = (
    LatencyToxic,
    BandwidthToxic,
    SlowCloseToxic,
    TimeoutToxic,
    ResetPeerToxic,
    SlicerToxic,
    LimitToxic,
    NoopToxic,
)

API_TOXICS: Mapping[str, type[ApiToxic]] = {toxic.api_type: toxic for toxic in _API_KINDS}
"""The kinds that Toxiproxy's HTTP API knows, by their names there."""

_OWN_KINDS: tuple[type[Toxic], ...] = (
    DisconnectToxic,
    SlowAcceptToxic,
    ResetOnAcceptToxic,
    LossToxic,
    FlappingToxic,
    DropSynToxic,
    OnCommandToxic,
    PartitionToxic,
    RefuseToxic,
)

TOXICS: Mapping[str, type[Toxic]] = {toxic.kind: toxic for toxic in (*_API_KINDS, *_OWN_KINDS)}


def make_toxic(kind: str, arguments: Mapping[str, Any]) -> Toxic:
    """Return a new toxic. Raises HarnessError for an unknown kind or arguments that it does not take."""
    if kind not in TOXICS:
        raise HarnessError(f"kind={kind!r} must be one of {', '.join(sorted(TOXICS))}")
    try:
        return TOXICS[kind](**arguments)
    except TypeError as error:
        raise HarnessError(f"{kind}: arguments={dict(arguments)!r} do not fit: {error}") from error
