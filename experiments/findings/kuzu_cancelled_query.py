"""Cancelling a query of kuzu's AsyncConnection is answered with None: timeouts never raise, tasks never end cancelled.

The connection catches CancelledError, interrupts the query and returns. `asyncio.wait_for` then returns None as if that
were the result, and a task group cannot cancel what it started.
"""

import asyncio
from pathlib import Path

from chaos import Finding, KnownDefect


def steps(folder: Path, tell) -> None:
    """Give a long query a short time."""
    import kuzu

    database = kuzu.Database(str(folder / "graph.db"), buffer_pool_size=64 * 1024**2, max_db_size=256 * 1024**2)

    connection = kuzu.AsyncConnection(database, max_concurrent_queries=1)

    async def wait() -> object:
        long = connection.execute("UNWIND range(1, 300000) AS x RETURN sum(x * x)")
        return await asyncio.wait_for(long, timeout=0.02)

    try:
        result = asyncio.run(wait())
    except TimeoutError:
        return
    assert result is not None, "wait_for returned None, and no TimeoutError came"


EXPERIMENT = Finding(
    id="kuzu-cancelled-query",
    hypothesis="A query that takes longer than wait_for allows ends in TimeoutError.",
    tags=("graph", "kuzu"),
    subject="kuzu",
    steps=steps,
    expect=KnownDefect(
        outcome="wrong answer",
        says="wait_for returned None",
        versions=("0.11.3",),
        reason="AsyncConnection.execute catches CancelledError and does not raise it again.",
    ),
)
