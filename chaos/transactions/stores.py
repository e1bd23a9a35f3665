"""The clients of the three stores, made from what the harness says about them."""

from __future__ import annotations

from pathlib import Path

from chaos.stores.graph import GraphStore, StartChild
from chaos.stores.redis import RedisStore
from chaos.stores.sqlite import SQLiteStore
from chaos.transactions.system import Site


class Stores:
    """SQLite, Redis twice (`redis` for readers, `redis_applier` for the one that follows the log) and the graph.

    Settings come from `config.options`, a mapping from store name to what its declared value's `to_config`
    returned; what is left out has the default of `chaos.stores.spec`. `synchronous` overrides.
    """

    def __init__(self, site: Site, *, synchronous: str | None = None, start_graph: StartChild | None = None) -> None:
        """Make the clients; nothing is connected. start_graph: see `GraphStore`."""
        config = site.config
        sqlite, graph = config.options.get("sqlite", {}), config.options.get("graph", {})
        self.sqlite = SQLiteStore(
            config.folder("sqlite"),
            synchronous=synchronous or sqlite.get("synchronous", "FULL"),
            readers=sqlite.get("readers", 2),
        )
        self.redis = RedisStore(config.redis_host, config.redis_port)
        self.redis_applier = RedisStore(config.redis_host, config.redis_port, connections=2)
        self.graph = GraphStore(
            config.folder("graph"),
            engine=config.graph_engine,
            buffer_pool_mb=graph.get("buffer_pool_mb", 64),
            max_db_size_mb=graph.get("max_db_size_mb", 1024),
            log=_child_log(Path(config.data_folder)),
            on_child=lambda pid: site.child("graph", pid),
            start_child=start_graph,
        )

    async def close(self) -> None:
        """Close all of them, SQLite last. Idempotent."""
        await self.graph.close()
        await self.redis_applier.close()
        await self.redis.close()
        await self.sqlite.close()


def _child_log(data_folder: Path) -> Path:
    """Keep the child's output out of the stores' folders, where faults on files might meet it."""
    logs = [folder / "logs" for folder in data_folder.parents[:2]]
    return next((folder for folder in logs if folder.is_dir()), data_folder) / "graph-child.log"
