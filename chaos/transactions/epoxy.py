"""The arm after Epoxy: every store has a transaction, durably, before SQLite's COMMIT makes it visible.

Kraft and others, "Epoxy: ACID Transactions Across Diverse Data Stores", PVLDB 16(11),
2023. What differs from the paper's own code, and what it costs beside a redo log, is in
docs/explanation/transactions.md.
"""

from __future__ import annotations

from typing import Any

from chaos.transactions.applier import Applier
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.coordinator import Acknowledge, Coordinator
from chaos.transactions.epoxy_graph import EpoxyGraph
from chaos.transactions.epoxy_leader import EpoxyLeader
from chaos.transactions.epoxy_redis import EpoxyRedis
from chaos.transactions.leader import Leader
from chaos.transactions.redis_versions import VersionsReading
from chaos.transactions.redo import RedoSystem
from chaos.transactions.shipper import Shipper
from chaos.transactions.snapshots import Snapshots
from chaos.transactions.stores import Stores
from chaos.transactions.system import Site
from chaos.transactions.view import RedisReading


class EpoxyCoordinator(Coordinator):
    """`Coordinator` whose leader ships first and commits then; what is acknowledged has been applied."""

    def __init__(
        self,
        stores: Stores,
        log: CommitLog,
        appliers: tuple[Applier, Applier],
        site: Site,
        *,
        acknowledge: Acknowledge = "applied",
    ) -> None:
        """Put the parts together; nothing is connected or started. appliers: two `Shipper`, Redis's goes first."""
        super().__init__(stores, log, appliers, site, acknowledge=acknowledge)
        for shipper in self._shippers():
            shipper.snapshots = self.snapshot_numbers

    def _shippers(self) -> tuple[Shipper, ...]:
        return tuple(one for one in self._appliers if isinstance(one, Shipper))

    def _make_leader(self) -> Leader:
        return EpoxyLeader(self._sqlite, self._log, self._shippers(), self._tokens, self._site)

    def _make_snapshots(self) -> Snapshots:
        return Snapshots(self._stores, self._log, *self._appliers, still=self._leader.still)

    def _make_reading(self) -> RedisReading:
        return VersionsReading(self._stores.redis, self._server)

    def _server(self) -> str:
        store: Any = self._shippers()[0].secondary
        return str(store.server)


class EpoxySystem(RedoSystem):
    """`EpoxyCoordinator` behind the `System` protocol; the class attributes are seams, as those of `RedoSystem`."""

    redis_secondary = EpoxyRedis
    graph_secondary = EpoxyGraph
    applier = Shipper
    coordinator = EpoxyCoordinator
