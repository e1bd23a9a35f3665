"""Every workload on real stores, without a coordinator: what it writes is what its images tell, and undo takes it back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from random import Random

import pytest

from chaos.history.model import StoreImage
from chaos.transactions.local_site import LocalSite
from chaos.transactions.stores import Stores
from chaos.transactions.unit import Transaction
from chaos.workload import (
    Appends,
    Cached,
    Counters,
    Links,
    OnCall,
    Queries,
    Registers,
    Registration,
    Sets,
    Transfers,
    Workload,
)
from chaos.workload.base import WorkRefused, Writes

from .conftest import Place

pytestmark = pytest.mark.requires("redis")
WORKLOADS = (
    Appends(keys=4),
    Cached(keys=3, writes=0.4),
    Counters(keys=4, skew=1.0),
    Links(keys=5),
    OnCall(shifts=2),
    Queries(keys=4, batch=3),
    Registers(keys=4),
    Registration(founders=4, taken=0.3),
    Sets(keys=3),
    Transfers(accounts=4),
)
STORES = ("sqlite", "redis", "graph")


@pytest.fixture
async def stores(place: Place) -> AsyncIterator[Stores]:
    """Open clients of empty stores."""
    opened = Stores(LocalSite(place.config, None))
    await opened.sqlite.open()
    opened.graph.open()
    await opened.graph.wait_ready(15.0)
    yield opened
    await opened.close()


async def commit(stores: Stores, writes: Writes) -> None:
    """Write to each store in turn, as nothing goes wrong here."""
    async with stores.sqlite.write() as transaction:
        for sql, parameters in writes.sqlite:
            await transaction.execute(sql, parameters)
        await transaction.commit()
    for command in writes.redis:
        await stores.redis.execute(*command)
    await stores.graph.write(writes.graph)


async def images(stores: Stores, workload: Workload) -> Mapping[str, StoreImage]:
    """Read all stores."""
    return {
        "sqlite": await workload.image_sqlite(stores.sqlite),
        "redis": await workload.image_redis(stores.redis),
        "graph": await workload.image_graph(stores.graph),
    }


async def perform(stores: Stores, workload: Workload, number: int) -> tuple[Transaction, dict[str, object]] | None:
    """Draw a transaction, run its body and commit it; None when it refused itself."""
    token = f"t{number}"
    unit = Transaction(token, stores.sqlite, stores.redis, stores.graph)
    spec = workload.draw(Random(number), token, 0, number)
    try:
        await workload.perform(unit, spec)
    except WorkRefused:
        return None
    await commit(stores, Writes(tuple(unit.sqlite.writes), tuple(unit.redis.writes), tuple(unit.graph.writes)))
    return unit, spec


async def empty(stores: Stores) -> None:
    """Take away what the workload before has left in places that several share."""
    await stores.redis.execute("FLUSHALL")
    await commit(stores, Writes(sqlite=(("DROP TABLE IF EXISTS traces", ()),)))
    await stores.graph.write([("MATCH (t:Trace) DELETE t", {})])


@pytest.mark.timeout(120)
async def test_what_is_written_is_told_alike_by_all_stores(stores: Stores) -> None:
    """After a dozen transactions one after the other all images agree and no rule is broken; undo brings them back."""
    schemas = [sql for workload in WORKLOADS for sql in workload.genesis().graph_schema]
    await stores.graph.seed(list(dict.fromkeys(schemas)), [])
    for workload in WORKLOADS:
        await empty(stores)
        genesis = workload.genesis()
        schema = tuple((sql, ()) for sql in genesis.sqlite_schema)
        await commit(stores, Writes((*schema, *genesis.rows.sqlite), genesis.rows.redis, genesis.rows.graph))
        done = [await perform(stores, workload, number) for number in range(12)]
        sent = {unit.token: [spec["mark"]] for unit, spec in filter(None, done)}
        assert len(sent) >= 4, workload
        told = await images(stores, workload)
        assert {name: image.marks for name, image in told.items()} == dict.fromkeys(STORES, sent), workload
        reporting = [image.counters for image in told.values() if image.counters]
        assert all(counters == reporting[0] for counters in reporting), workload
        assert all(image.order == told["sqlite"].order for image in told.values()), workload
        assert not any(image.broken for image in told.values()), workload
        if isinstance(workload, Cached | OnCall | Queries | Registers):
            continue  # their undo cannot know what was there before
        tries = [await perform(stores, workload, number) for number in range(100, 104)]
        others = [one for one in tries if one is not None]
        assert others
        assert (await images(stores, workload))["graph"] != told["graph"], workload
        for unit, spec in reversed(others):
            await commit(stores, workload.undo(unit.token, spec))
        assert await images(stores, workload) == told, workload
