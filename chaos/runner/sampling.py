"""Samples what the worker and its children use, once a second, and tells the harness."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from chaos.metrics.resources import LoopLag, descriptor_count, resident_bytes, size_bytes
from chaos.transactions.system import SiteConfig

PERIOD_S = 1.0


class Sampler:
    """Looks at this process for as long as it lives. What it tells is an `event` named `sample` in the history.

    worker_resident_bytes, worker_descriptors, event_loop_lag_s (the greatest since the last sample), wal_bytes, and
    <child>_resident_bytes. pools: what the system's own `pools` returned, if it has such a method.
    """

    def __init__(
        self,
        system: object,
        config: SiteConfig,
        children: Mapping[str, int],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        """children: pids by name, as they are now at each sample."""
        self._system = system
        self._wal = config.folder("sqlite") / "main.db-wal"
        self._children = children
        self._tell = tell
        self._lag = LoopLag()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; it ends with the process."""
        self._lag.start()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def sample(self) -> dict[str, Any]:
        """Look once. What cannot be told is left out."""
        seen: dict[str, Any] = {
            "worker_resident_bytes": resident_bytes(),
            "worker_descriptors": descriptor_count(),
            "event_loop_lag_s": round(self._lag.take(), 6),
            "wal_bytes": size_bytes(self._wal),
            **{f"{name}_resident_bytes": resident_bytes(pid) for name, pid in self._children.items()},
        }
        pools = getattr(self._system, "pools", None)
        if callable(pools):
            with contextlib.suppress(Exception):  # a system of the user's own may mean something else by that name
                seen["pools"] = [report.to_json() for report in pools()]
        return {name: value for name, value in seen.items() if value is not None}

    async def _run(self) -> None:
        while True:
            self._tell(self.sample())
            await asyncio.sleep(PERIOD_S)
