"""The stores under test: what an experiment declares about them (here), and how a coordinator talks to them.

`stores.SQLite`, `stores.Redis` and `stores.Graph` are declared values. The clients are in `sqlite`, `redis`
and `graph` of this package; they are imported by coordinators only.
"""

from __future__ import annotations

from chaos.stores.spec import Graph, Redis, SQLite, StoreSpec

__all__ = ["Graph", "Redis", "SQLite", "StoreSpec"]
