"""Times operations of an application or a benchmark, by store and operation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chaos.errors import StoreInDoubt, TransactionInDoubt
from chaos.metrics.quantiles import Series


class Recorder:
    """Series by (store, operation). Belongs to one event loop; one operation costs about a microsecond."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Nothing was measured; times count from now."""
        self._clock = clock
        self._zero_s = clock()
        self.series: dict[tuple[str, str], Series] = {}

    def of(self, store: str, operation: str) -> Series:
        """Return the series of that name, a new one when there is none yet."""
        return self.series.setdefault((store, operation), Series())

    @contextmanager
    def timing(self, store: str, operation: str) -> Iterator[None]:
        """Time the block. Left by an error it is a failure; by one that says in doubt, unknown; the error goes on."""
        began_s = self._clock()
        try:
            yield
        except (StoreInDoubt, TransactionInDoubt):
            self.of(store, operation).unknown(began_s - self._zero_s)
            raise
        except BaseException:
            self.of(store, operation).failed(began_s - self._zero_s)
            raise
        self.of(store, operation).ok(began_s - self._zero_s, self._clock() - began_s)

    def operations(self) -> list[dict[str, Any]]:
        """Return one summary for each series, by name, in the form of `metrics.json`."""
        return [
            {"store": store, "operation": operation, **series.summary().to_json()}
            for (store, operation), series in sorted(self.series.items())
        ]
