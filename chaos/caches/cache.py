"""One cache: written through by the applier of the commit log, read through by everybody else.

Write-through: whoever follows the commit log calls `apply` with the number and the changes of each commit, after that
commit and never before. Read-through: on a miss the source is read as of some commit, and the value is filled with that
commit's number. Both go through scripts that never replace a newer value, so a filler that is slow (the classic
stale-fill race) changes nothing. Deleted is written as a tombstone, not there as a negative entry.

A cache that does not answer costs time and not truth: the source is read instead.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chaos.caches import scripts
from chaos.errors import StoreError
from chaos.stores.background import Background
from chaos.stores.redis import RedisStore

_MS_PER_S = 1000


@dataclass(frozen=True)
class Versioned:
    """A value and the commit it belongs to. value: None when there is nothing of that name."""

    csn: int
    value: str | None


Source = Callable[[str], Awaitable[Versioned]]
"""Reads one name from the store that is cached, with the number of a commit that the reading is exactly as new as."""


@dataclass(frozen=True)
class CacheSettings:
    """Times in seconds. ttl_s: how long an entry stays; only a safety net, since entries are kept up to date.

    negative_ttl_s: how long "not there" stays. lease_s: how long a reader may take to fill; shorter than both by a
    wide margin, or a filler may meet an entry's end.
    """

    ttl_s: float = 60.0
    negative_ttl_s: float = 20.0
    lease_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse times that reopen the stale-fill race."""
        if not 0 < 2 * self.lease_s <= min(self.ttl_s, self.negative_ttl_s):
            raise ValueError(
                f"lease_s={self.lease_s:g} must be above 0 and at most half of ttl_s={self.ttl_s:g} and"
                f" negative_ttl_s={self.negative_ttl_s:g}; lower lease_s"
            )


@dataclass
class CacheStats:
    """Counts since the cache was made. hits: answered by Redis, negative_hits those among them that said not there.

    misses: those that were not; joined: answered by the reading of another caller; bypassed: Redis did not answer, or
    was behind what the caller demanded. filled, late, older: what became of fills (late: the lease was over; older:
    there was a newer value). applied: commits written through; applied_older: changes of them that were known already.
    """

    hits: int = 0
    negative_hits: int = 0
    misses: int = 0
    joined: int = 0
    bypassed: int = 0
    filled: int = 0
    late: int = 0
    older: int = 0
    applied: int = 0
    applied_older: int = 0

    def to_json(self) -> dict[str, int]:
        """Return plain values."""
        return asdict(self)


class Cache:
    """Names under `prefix` in Redis. Belongs to one event loop; any number of processes may share the prefix."""

    fill_script = scripts.fill_script()
    apply_script = scripts.apply_script()

    def __init__(
        self,
        store: RedisStore,
        source: Source,
        *,
        prefix: str,
        settings: CacheSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read through to `source`. `store` is a client for readers; the applier may give `apply` another one."""
        self._store = store
        self._source = source
        self._prefix = prefix
        self._settings = settings or CacheSettings()
        self._clock = clock
        self._background = Background()
        self._flights: dict[str, asyncio.Task[Versioned]] = {}
        self._leases = itertools.count(1)
        self.stats = CacheStats()
        self.sync_lag_s: list[float] = []
        """From each commit to its being in the cache, for those whose time of commit was told to `apply`."""

    async def get(self, name: str, *, at_least: int = 0) -> Versioned:
        """Return the value of `name`, as new as the commit `at_least` (a caller's own last commit) or newer.

        Raises what the source raises. Cancellation: safe; a reading that others wait for goes on.
        """
        found, lease = await self._look(name, at_least)
        if found is not None:
            return found
        while (flight := self._flights.get(name)) is not None:
            self.stats.joined += 1
            value = await asyncio.shield(flight)
            if value.csn >= at_least:
                return value
        flight = self._background.start(self._read_and_fill(name, lease))
        self._flights[name] = flight
        flight.add_done_callback(lambda _: self._flights.pop(name, None))
        return await asyncio.shield(flight)

    async def apply(
        self,
        csn: int,
        changes: Mapping[str, str | None],
        *,
        committed_s: float | None = None,
        store: RedisStore | None = None,
    ) -> int:
        """Write the changes of commit `csn` through, None for what it deleted; return how many were known already.

        Also moves the number up to which readers may rely on the cache, so call it for each commit, in order, with no
        changes where there are none. Repeating is harmless. committed_s: when the commit was durable, on this cache's
        clock. Raises StoreUnavailable or StoreInDoubt; ask again then.
        """
        keys = (self._applied_key, *(self._key(name) for name in changes))
        told = [part for value in changes.values() for part in (("x", "") if value is None else ("v", value))]
        arguments = (str(csn), self._ms(self._settings.ttl_s), *told)
        older = int(await (store or self._store).evaluate(self.apply_script, keys, arguments))
        self.stats.applied += 1
        self.stats.applied_older += older
        if committed_s is not None:
            self.sync_lag_s.append(self._clock() - committed_s)
        return older

    async def close(self) -> None:
        """Wait until nothing that was begun for a caller runs any more."""
        await self._background.wait_idle()

    async def _look(self, name: str, at_least: int) -> tuple[Versioned | None, str | None]:
        """Return what the cache has, and otherwise the lease to fill under, if this cache has it.

        Of the callers that miss at once one takes the lease, and it need not be the one that goes on to read: its
        answer may come second. The lease of a sibling is as good, since it too was taken before the reading begins.
        """
        mine = f"{os.getpid()}.{id(self)}."
        lease = f"{mine}{next(self._leases)}"
        keys = (self._key(name), self._lease_key(name), self._applied_key)
        try:
            answer: list[Any] = await self._store.evaluate(
                scripts.LOOK, keys, (lease, self._ms(self._settings.lease_s))
            )
        except StoreError:
            self.stats.bypassed += 1
            return None, None
        number, kind, value, applied = answer
        if number == "":
            self.stats.misses += 1
            return None, kind if kind.startswith(mine) else None
        if max(int(applied), int(number)) < at_least:
            self.stats.bypassed += 1
            return None, None
        self.stats.hits += 1
        self.stats.negative_hits += kind != "v"
        return Versioned(int(number), value if kind == "v" else None), None

    async def _read_and_fill(self, name: str, lease: str | None) -> Versioned:
        value = await self._source(name)
        if lease is not None:
            try:
                await self._fill(name, value, lease)
            except StoreError:
                self.stats.late += 1  # nobody misses it: the next reader looks again
        return value

    async def _fill(self, name: str, value: Versioned, lease: str) -> None:
        kind, text, ttl_s = "v", value.value, self._settings.ttl_s
        if text is None:
            kind, text, ttl_s = "n", "", self._settings.negative_ttl_s
        keys = (self._key(name), self._lease_key(name))
        outcome = await self._store.evaluate(
            self.fill_script, keys, (lease, str(value.csn), kind, text, self._ms(ttl_s))
        )
        setattr(self.stats, outcome, getattr(self.stats, outcome) + 1)

    @property
    def _applied_key(self) -> str:
        return f"{self._prefix}:~applied"

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _lease_key(self, name: str) -> str:
        return f"{self._prefix}:~lease:{name}"

    @staticmethod
    def _ms(seconds: float) -> str:
        return str(round(seconds * _MS_PER_S))
