"""Bytes received and sent, in Prometheus' text format. They are live: an open connection counts."""

from __future__ import annotations

from collections.abc import Iterable

from chaos.faults.network.api import process_metrics
from chaos.faults.network.api.proxies import ManagedProxy
from chaos.faults.network.api.toxics import STREAMS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NAMES = ("toxiproxy_proxy_received_bytes_total", "toxiproxy_proxy_sent_bytes_total")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def exposition(proxies: Iterable[ManagedProxy], *, runtime: bool = False) -> bytes:
    """Return the counters of the proxies there are; those of a proxy end with it. With `runtime` this process too."""
    ordered = sorted(proxies, key=lambda proxy: proxy.proxy.name)
    traffic = [proxy.proxy.traffic() for proxy in ordered]
    lines = process_metrics.lines() if runtime else []
    for index, name in enumerate(_NAMES):
        if ordered:
            lines += [f"# HELP {name} ", f"# TYPE {name} counter"]
        for proxy, bytes_by_side in zip(ordered, traffic, strict=True):
            for stream, side in sorted(STREAMS.items()):
                lines.append(f"{name}{{{_labels(stream, proxy)}}} {bytes_by_side[side][index]}")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _labels(stream: str, proxy: ManagedProxy) -> str:
    values = {
        "direction": stream,
        "listener": proxy.listen,
        "proxy": proxy.proxy.name,
        "upstream": proxy.upstream,
    }
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items())
