"""The coordinator as a library: no harness, no experiment, three stores and a folder.

    async with transactions.open(folder, redis=("127.0.0.1", 6379), schema=schema) as coordinator:
        async with coordinator.transaction() as txn:
            txn.sqlite.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", (5, 1))
            txn.redis.command("INCRBY", "balance:1", -5)
            txn.graph.execute("CREATE (:Payment {id: $id})", {"id": 7})

A process that opens the folder takes it over: the one before, if it still lives, can commit nothing any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from chaos.stores import policies
from chaos.transactions.applier import GATHER_S, Applier
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.coordinator import Acknowledge, Coordinator
from chaos.transactions.epoxy import EpoxyCoordinator
from chaos.transactions.epoxy_graph import EpoxyGraph
from chaos.transactions.epoxy_redis import EpoxyRedis
from chaos.transactions.graph_secondary import GraphSecondary
from chaos.transactions.local_site import QuietSite
from chaos.transactions.naive import NaiveCoordinator, set_up_naive
from chaos.transactions.secondaries import RedisSecondary
from chaos.transactions.shipper import Shipper
from chaos.transactions.stores import Stores
from chaos.transactions.system import Site, SiteConfig
from chaos.workload.base import Genesis

Arm = Literal["redo", "epoxy", "naive"]

_OPEN_S = 5.0
_READY_S = 15.0


@asynccontextmanager
async def open(  # noqa: A001  # used as transactions.open, like its namesakes
    folder: Path,
    *,
    redis: tuple[str, int],
    schema: Genesis,
    engine: str = "kuzu",
    arm: Arm = "redo",
    acknowledge: Acknowledge = "applied",
    site: Site | None = None,
) -> AsyncIterator[Coordinator | NaiveCoordinator]:
    """Open the stores, bring them to a decided state, and yield a coordinator; close all of it on leaving.

    Args:
        folder: holds the files of SQLite and of the graph, in folders of its own; made when it is not there.
        redis: host and port of a server that nobody else writes to.
        schema: tables and first rows, used for what does not exist yet. Its statements may be run more than once.
        engine: "kuzu" or "ladybug".
        arm: "redo" decides first and applies then, "epoxy" the other way round; "naive" is the control, which keeps no
            promise when something fails.
        acknowledge: answer when every store has a transaction ("applied"), or when it is decided ("durable"); with
            "epoxy" these are the same moment.
        site: told each step of each transaction (`chaos.transactions.system.Site`); None: nobody.

    Raises StoreError when SQLite cannot be opened; a Redis or a graph that is away is waited for two seconds, then
    followed in the background.
    """
    if site is None:
        host, port = redis
        config = SiteConfig(redis_host=host, redis_port=port, data_folder=str(folder), graph_engine=engine, workload={})
        site = QuietSite(config)
    for name in ("sqlite", "graph"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stores = Stores(site)
    coordinator: Coordinator | NaiveCoordinator
    if arm == "naive":
        await set_up_naive(stores, schema)
        coordinator = NaiveCoordinator(Stores(site), site)
    else:
        coordinator = await _over_a_log(stores, schema, arm, acknowledge, site)
    try:
        await coordinator.open()
        await coordinator.recover()
        yield coordinator
    finally:
        await coordinator.close()


async def _over_a_log(stores: Stores, schema: Genesis, arm: Arm, acknowledge: Acknowledge, site: Site) -> Coordinator:
    """Put one of the arms together that have a commit log, and make the log if it is not there."""
    log = CommitLog(stores.sqlite)
    await _create(stores, log, schema)
    if arm == "epoxy":
        shippers = (
            Shipper(EpoxyRedis(stores.redis_applier, schema, log, site), log, site),
            Shipper(EpoxyGraph(stores.graph, schema, log, site), log, site),
        )
        return EpoxyCoordinator(stores, log, shippers, site, acknowledge=acknowledge)
    redis = RedisSecondary(stores.redis_applier, schema, log, site)
    graph = GraphSecondary(stores.graph, schema, log, site)
    gather_s = GATHER_S if acknowledge == "durable" else 0.0
    appliers = (Applier(redis, log, site, gather_s=gather_s), Applier(graph, log, site, gather_s=gather_s))
    coordinator = Coordinator(stores, log, appliers, site, acknowledge=acknowledge)
    redis.snapshots = coordinator.snapshot_numbers
    return coordinator


async def _create(stores: Stores, log: CommitLog, schema: Genesis) -> None:
    """Make SQLite's tables and first rows unless they are there; the other stores are filled by their appliers."""
    async for attempt in policies.sqlite_open(_OPEN_S):
        with attempt:
            await stores.sqlite.open()
    try:
        if not await stores.sqlite.fetch("SELECT 1 FROM sqlite_master WHERE name = 'commits'"):
            tables = tuple((sql, ()) for sql in schema.sqlite_schema)
            await log.create((*tables, *schema.rows.sqlite))
    finally:
        await stores.sqlite.close()
