"""SQLite: queries below 200 ms and transactions below 100 ms at p99 with 30 connections, 50 a second, 5 MB each."""

from __future__ import annotations

import itertools
import sqlite3
from random import Random

from chaos.metrics.resources import resident_bytes
from chaos.stores.pool_model import PoolSettings
from chaos.stores.sqlite import SQLiteStore

from .model import MEGABYTE, Figure, Options, closed_loop, of

CONNECTIONS = 30
ROWS = 5000
_QUERIES = {
    "select": "SELECT name FROM users WHERE id = ?",
    "join": "SELECT u.name, sum(o.amount) FROM users u JOIN orders o ON o.user = u.id WHERE u.id = ? GROUP BY u.id",
    "aggregate": "SELECT city, count(*), avg(id) FROM users WHERE id > ? GROUP BY city",
}
_ORDER = "INSERT INTO orders VALUES (?, 1)"


async def measure(options: Options) -> list[Figure]:
    """Fill two tables, then query, then write; synced in full at each commit."""
    before = resident_bytes() or 0
    pool = PoolSettings(min_size=1, max_size=CONNECTIONS, growth=CONNECTIONS, acquire_timeout_s=30)
    store = SQLiteStore(options.folder, pool=pool)
    await store.open()
    try:
        await _fill(store)
        with_one = resident_bytes() or before
        numbers = itertools.count(ROWS)

        async def insert(random: Random) -> None:
            number, city = next(numbers), random.randrange(50)

            def rows(connection: sqlite3.Connection) -> None:
                connection.execute("INSERT INTO users VALUES (?, 'new', 1)", (number,))
                connection.execute("UPDATE users SET city = ? WHERE id = 1", (city,))

            async with store.write() as transaction:
                await transaction.run(rows)
                await transaction.commit()

        async def bulk(random: Random) -> None:
            users = [(random.randrange(ROWS),) for _ in range(100)]
            async with store.write() as transaction:
                await transaction.run(lambda connection: connection.executemany(_ORDER, users).rowcount)
                await transaction.commit()

        def query(sql: str) -> object:
            async def run(random: Random) -> None:
                await store.fetch(sql, (random.randrange(ROWS),))

            return run

        queries = [("sqlite", name, query(sql)) for name, sql in _QUERIES.items()]
        read, read_rate = await closed_loop(CONNECTIONS, options.seconds, queries)
        per_connection = ((resident_bytes() or 0) - with_one) / CONNECTIONS / MEGABYTE
        wrote, write_rate = await closed_loop(CONNECTIONS, options.seconds, [("sqlite", "transaction", insert)])
        bulks, _ = await closed_loop(1, min(1.0, options.seconds), [("sqlite", "bulk of 100 rows", bulk)])
    finally:
        await store.close()
    return [
        *(of(read, "sqlite", name, 0.99, 200, CONNECTIONS) for name in _QUERIES),
        of(wrote, "sqlite", "transaction", 0.99, 100, CONNECTIONS),
        of(bulks, "sqlite", "bulk of 100 rows", 0.99, 200, 1),
        Figure("queries per second", read_rate, 50, "/s", at_most=False),
        Figure("transactions per second", write_rate, 50, "/s", at_most=False),
        Figure("memory per connection, after queries", per_connection, 5, "MB"),
    ]


async def _fill(store: SQLiteStore) -> None:
    async with store.write() as transaction:
        await transaction.execute("CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, city INTEGER)")
        await transaction.execute('CREATE TABLE orders("user" INTEGER, amount INTEGER)')
        await transaction.execute('CREATE INDEX by_user ON orders("user")')
        users = [(number, f"user {number}", number % 50) for number in range(ROWS)]
        orders = [(number, number % 7) for number in range(ROWS)]
        await transaction.run(lambda c: c.executemany("INSERT INTO users VALUES (?, ?, ?)", users).rowcount)
        await transaction.run(lambda c: c.executemany("INSERT INTO orders VALUES (?, ?)", orders).rowcount)
        await transaction.commit()
