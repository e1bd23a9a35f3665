"""Readers of a cache fill it late, while commits write newer values through: no reader may see what is over.

Both systems keep the accounts of the bank in a cache in Redis: the applier of the commit log writes each committed
balance through, entries expire quickly, and whoever misses reads SQLite and fills, a fifth of a second late. Ours fills
by commit number. In the control a fill does not look at the number that is there, as caches do that only know "set":
it replaces a newer balance by an older one, and the next reader is told of money that has gone.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random

import msgspec

from chaos import Experiment, KnownFailure, checks, faults, stores, systems, when, workload
from chaos.caches import scripts
from chaos.caches.cache import Cache, CacheSettings, Versioned
from chaos.caches.sources import from_sqlite
from chaos.errors import StoreError
from chaos.history.model import StoreImage
from chaos.transactions.commit_log import RedoRow
from chaos.transactions.redo import RedoSystem
from chaos.transactions.secondaries import RedisSecondary
from chaos.transactions.system import Site

ACCOUNTS = 80
READERS = 12
FILL_DELAY_S = 0.2
TOLD_MAX = 20
SETTINGS = CacheSettings(ttl_s=2, negative_ttl_s=2, lease_s=1)
STORES = (stores.SQLite(readers=4), stores.Redis(), stores.Graph())
BALANCE = "SELECT balance FROM accounts WHERE id = ?"


class WritingThrough(RedisSecondary):
    """Follows the log, and writes through what each commit changed."""

    def __init__(self, system: "CachedSystem", *arguments: object) -> None:
        """Belong to `system`, which has the cache."""
        super().__init__(*arguments)  # type: ignore[arg-type]  # as RedisSecondary takes them
        self._system = system

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Write through first: after the commit, and again when the rest has to be done again."""
        await self._system.write_through(rows)
        return await super().apply(rows)


class CachedSystem(RedoSystem):
    """Our coordinator with a cache of the balances, some readers of it, and an eye on what they are told."""

    cache: type[Cache] = Cache

    def __init__(self) -> None:
        """Nothing was read."""
        super().__init__()
        self.redis_secondary = partial(WritingThrough, self)  # type: ignore[assignment]  # called like the class
        self._cache: Cache | None = None
        self._floor: dict[str, int] = {}
        self._stale: list[str] = []
        self._readers: list[asyncio.Task[None]] = []

    async def open(self, site: Site) -> None:
        """Open everything, and begin to read."""
        await super().open(site)
        self._readers = [asyncio.create_task(self._read(Random(number))) for number in range(READERS)]

    async def write_through(self, rows: Sequence[RedoRow]) -> None:
        """Put the committed balances of all accounts that `rows` touched into the cache, with their commit's number."""
        names = sorted({name for row in rows for name in _accounts(row)})
        read = await asyncio.gather(*(self._committed(name) for name in names))
        for name, found in zip(names, read, strict=True):
            await self._the_cache().apply(found.csn, {name: found.value}, store=self._redis_of_the_applier())
            self._floor[name] = max(found.csn, self._floor.get(name, 0))

    async def read_back(self) -> Mapping[str, StoreImage]:
        """Add what readers were told wrongly to the image of Redis."""
        images = dict(await super().read_back())
        images["redis"] = msgspec.structs.replace(images["redis"], broken=list(self._stale))
        return images

    async def close(self) -> None:
        """Stop reading, then close."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        if self._cache is not None:
            await self._cache.close()
        await super().close()

    def _the_cache(self) -> Cache:
        if self._cache is None:
            assert self._stores is not None
            self._cache = self.cache(self._stores.redis, self._read_late, prefix="cache:account", settings=SETTINGS)
        return self._cache

    def _redis_of_the_applier(self) -> object:
        assert self._stores is not None
        return self._stores.redis_applier

    async def _committed(self, name: str) -> Versioned:
        assert self._stores is not None
        return await from_sqlite(self._stores.sqlite, BALANCE)(name)

    async def _read_late(self, name: str) -> Versioned:
        found = await self._committed(name)
        await asyncio.sleep(FILL_DELAY_S)  # a slow reader: what it has read may be over when it fills
        return found

    async def _read(self, random: Random) -> None:
        while True:
            name = str(random.randrange(ACCOUNTS))
            least = self._floor.get(name, 0)  # this much was written through before we asked
            try:
                found = await self._the_cache().get(name)
            except StoreError:
                found = None
            if found is not None and found.csn < least and len(self._stale) < TOLD_MAX:
                balance = json.loads(found.value or "[]")
                self._stale.append(f"account {name}: read {balance} of commit {found.csn}, {least} was there before")
            await asyncio.sleep(0.002)


def _accounts(row: RedoRow) -> set[str]:
    return {
        command[1].partition(":")[2]
        for command in row.writes.redis
        if len(command) > 1 and command[1].startswith("balance:")
    }


class UncheckedCache(Cache):
    """Fills without a look at the number that is there."""

    fill_script = scripts.fill_script(checked=False)


class StaleSystem(CachedSystem):
    """The same system with such a cache."""

    cache = UncheckedCache


LOAD = workload.Transfers(accounts=ACCOUNTS, clients=4, rate=60, seconds=7, deadline="2s")
SLOW = (when.at("1500ms").do(faults.Latency("redis", "20ms", jitter="15ms")).heal(after="2s"),)

EXPERIMENTS = (
    Experiment(
        id="cache-staleness",
        hypothesis="However late a reader fills the cache, nobody is told a balance that a commit has replaced before.",
        tags=("cache", "redis"),
        system=systems.Own("CachedSystem"),
        stores=STORES,
        workload=LOAD,
        schedule=SLOW,
        checks=(checks.Atomic(), checks.ExactlyOnce(), checks.Invariants()),
    ),
    Experiment(
        id="cache-staleness-unchecked",
        hypothesis="A cache may be filled with what was read a moment ago.",
        tags=("cache", "control", "redis"),
        system=systems.Own("StaleSystem"),
        stores=STORES,
        workload=LOAD,
        schedule=SLOW,
        checks=(checks.Atomic(), checks.ExactlyOnce(), checks.Invariants()),
        expect=KnownFailure(
            check="invariants",
            reason="A fill that was read before a commit comes after it, and replaces the newer balance.",
        ),
    ),
)
