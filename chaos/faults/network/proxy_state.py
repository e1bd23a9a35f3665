"""What a proxy tells of itself; apart, so that who reads it need not load the proxy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ProxyState:
    """A proxy at one moment.

    connections are open; opening ones were accepted and have no upstream yet (dialing, or kept waiting by a
    toxic). The bytes are totals since the proxy was added, of what was passed on, per direction.
    buffered_bytes are in the proxy's memory now; paused_links are directions that are not being read. faults holds the
    lasting ones that act, by id in order of injection, with the evidence each has gathered so far.
    """

    upstream: str
    port: int
    is_listening: bool
    connections: int
    opening: int
    connections_total: int
    failed_dials: int
    request_bytes: int
    reply_bytes: int
    buffered_bytes: int
    paused_links: int
    faults: Mapping[str, Mapping[str, int]]
