"""The stores under test: what an experiment declares about them (here), and how a coordinator talks to them.

`stores.SQLite`, `stores.Redis`, `stores.Graph` and `stores.Pool` are declared values. The clients are in `sqlite`,
`redis` and `graph` of this package; they are imported by coordinators only.
"""

from __future__ import annotations

from chaos.stores.pool_spec import Pool
from chaos.stores.spec import Graph, Redis, SQLite, StoreSpec

__all__ = ["Graph", "Pool", "Redis", "SQLite", "StoreSpec"]
