"""Who is connected to a port, as the kernel lists it (proc(5), /proc/net/tcp) for this network namespace."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_ESTABLISHED = "01"
_TABLE = Path("/proc/self/net/tcp")


def connected_to(host: str, port: int) -> frozenset[int] | None:
    """Return the local ports of the established IPv4 connections to an address; None where no list can be read.

    `host` must be an IPv4 address in numbers. Clients in other network namespaces (other containers) are not seen.
    """
    packed = struct.unpack("=I", socket.inet_aton(host))[0]
    wanted = f"{packed:08X}:{port:04X}"
    try:
        lines = _TABLE.read_text().splitlines()[1:]
    except OSError:
        return None
    rows = (line.split() for line in lines)
    return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if row[2] == wanted and row[3] == _ESTABLISHED)
