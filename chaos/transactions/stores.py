"""The clients of the three stores, made from what the harness says about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.stores.graph import GraphStore
from chaos.stores.graph_launch import StartChild
from chaos.stores.pool_model import PoolReport, PoolSettings
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.system import Site

_REDIS_POOL = PoolSettings(max_size=10, reserved=2, growth=10)


class Stores:
    """SQLite, Redis twice (`redis` for readers, `redis_applier` for the one that follows the log) and the graph.

    Both of Redis share one pool, some of whose connections are reserved for the applier, so that readers cannot
    starve it.

    Settings come from `config.options`, a mapping from store name to what its declared value's `to_config`
    returned; what is left out has the default of `chaos.stores.spec`. `synchronous` overrides.
    """

    def __init__(self, site: Site, *, synchronous: str | None = None, start_graph: StartChild | None = None) -> None:
        """Make the clients; nothing is connected. start_graph: see `GraphStore`."""
        config = site.config
        sqlite, redis, graph = (config.options.get(name, {}) for name in ("sqlite", "redis", "graph"))
        self.sqlite = SQLiteStore(
            config.folder("sqlite"),
            synchronous=synchronous or sqlite.get("synchronous", "FULL"),
            readers=sqlite.get("readers", 2),
            pool=_pool(sqlite),
            snapshots=sqlite.get("snapshots", 64),
        )
        self.redis = RedisStore(config.redis_host, config.redis_port, pool=_pool(redis) or _REDIS_POOL)
        self.redis_applier = self.redis.commit_path()
        self.graph = GraphStore(
            config.folder("graph"),
            engine=config.graph_engine,
            buffer_pool_mb=graph.get("buffer_pool_mb", 64),
            max_db_size_mb=graph.get("max_db_size_mb", 1024),
            log=_child_log(Path(config.data_folder)),
            on_child=lambda pid: site.child("graph", pid),
            pool=_pool(graph),
            snapshots=graph.get("snapshots", 64),
            start_child=start_graph,
        )

    def pools(self) -> list[PoolReport]:
        """Return the state of every pool."""
        return [*self.sqlite.pools(), *self.redis.pools(), *self.graph.pools()]

    async def close(self) -> None:
        """Close all of them, SQLite last. Idempotent."""
        await self.graph.close()
        await self.redis.close()
        await self.sqlite.close()


def _pool(options: Mapping[str, Any]) -> PoolSettings | None:
    declared = options.get("pool")
    return None if declared is None else PoolSettings.from_config(declared)


def _child_log(data_folder: Path) -> Path:
    """Keep the child's output out of the stores' folders, where faults on files might meet it."""
    logs = [folder / "logs" for folder in data_folder.parents[:2]]
    return next((folder for folder in logs if folder.is_dir()), data_folder) / "graph-child.log"
