"""Money moves between accounts, and every store keeps a trace of each transfer.

SQLite holds the balances and a row per transfer, Redis a counter per account and a list of marks, the graph an
edge per transfer between account nodes. The mark ("3>7:5") is the same text in all three, so a torn transfer
is seen as a token that some stores know and others do not, and a doubled one as a mark found twice or as
balances that differ. The graph is only added to (its balances are sums over edges), because one of the engines
corrupts itself when updates are rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from chaos.errors import Problem
from chaos.history.model import Read, StoreImage
from chaos.workload.base import Genesis, Graph, KeyValue, Relational, UnitOfWork, WorkRefused, Writes
from chaos.workload.shape import Shape
from chaos.workload.trace import READ_BACK_S, by_token, named, whole_number

_AMOUNT_MAX = 10
_LIMIT = 50
_MARKS = "marks"

_SQLITE_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS accounts(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0))",
    """CREATE TABLE IF NOT EXISTS transfers(
    token TEXT NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL, amount INTEGER NOT NULL, mark TEXT NOT NULL
    )""",
)
_GRAPH_SCHEMA = (
    "CREATE NODE TABLE IF NOT EXISTS Account(id INT64, PRIMARY KEY(id))",
    "CREATE REL TABLE IF NOT EXISTS SENT(FROM Account TO Account, token STRING, mark STRING, amount INT64)",
)
SENT = (
    "MATCH (a:Account {id: $source}), (b:Account {id: $target}) "
    "CREATE (a)-[:SENT {token: $token, mark: $mark, amount: $amount}]->(b)"
)


@dataclass(frozen=True, kw_only=True)
class Transfers(Shape):
    """Transfers between `accounts` accounts that start with `initial` each.

    reads_redis: about half of the transactions first read a limit from Redis, and so cannot happen while Redis is
    away. The rest of the parameters are those of every load.
    """

    accounts: int = 16
    initial: int = 100
    reads_redis: bool = True

    def problems(self) -> Iterator[Problem]:
        """Yield every parameter that is out of range."""
        yield from self.bad_count("accounts", 2, 10_000)
        yield from super().problems()
        yield from self.bad_count("initial", 0, 1_000_000_000)
        yield from self.bad_flag("reads_redis")

    def draw(self, rng: Random, token: str, process: int, ordinal: int) -> dict[str, Any]:
        """Draw two different accounts and an amount of 1 to 10; the mark reads "source>target:amount"."""
        source, target = rng.sample(range(self.accounts), 2)
        amount = rng.randint(1, _AMOUNT_MAX)
        reads_redis = rng.random() < 0.5 and self.reads_redis
        return {
            "source": source,
            "target": target,
            "amount": amount,
            "mark": f"{source}>{target}:{amount}",
            "reads_redis": reads_redis,
        }

    def genesis(self) -> Genesis:
        """Return empty tables, every account with its initial balance, and the limits."""
        accounts = range(self.accounts)
        return Genesis(
            sqlite_schema=_SQLITE_SCHEMA,
            graph_schema=_GRAPH_SCHEMA,
            rows=Writes(
                sqlite=tuple(("INSERT INTO accounts VALUES (?, ?)", (n, self.initial)) for n in accounts),
                redis=(
                    *(("SET", f"balance:{n}", self.initial) for n in accounts),
                    *(("SET", f"limits:{n}", _LIMIT) for n in accounts),
                ),
                graph=tuple(("CREATE (:Account {id: $id})", {"id": n}) for n in accounts),
            ),
        )

    async def perform(self, txn: UnitOfWork, spec: Mapping[str, Any]) -> Sequence[Read]:
        """Check the limit and the balance, then buffer one trace and two balances per store.

        Raises WorkRefused when there is too little money or the amount exceeds the limit. The constraint on the
        balance guards against a transfer that commits between this reading and the commit.
        """
        source, target, amount, mark = spec["source"], spec["target"], spec["amount"], spec["mark"]
        if spec["reads_redis"]:
            limit = await txn.redis.get(f"limits:{source}")
            if limit is not None and amount > int(limit):
                raise WorkRefused(f"amount={amount} exceeds the limit of {limit}")
        rows = await txn.sqlite.fetch("SELECT balance FROM accounts WHERE id = ?", (source,))
        if rows[0][0] < amount:
            raise WorkRefused(f"account {source} holds {rows[0][0]}, less than {amount}")
        txn.sqlite.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", (amount, source))
        txn.sqlite.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", (amount, target))
        txn.sqlite.execute("INSERT INTO transfers VALUES (?, ?, ?, ?, ?)", (txn.token, source, target, amount, mark))
        txn.redis.command("INCRBY", f"balance:{source}", -amount)
        txn.redis.command("INCRBY", f"balance:{target}", amount)
        txn.redis.command("RPUSH", _MARKS, f"{txn.token} {mark}")
        parameters = {"source": source, "target": target, "token": txn.token, "mark": mark, "amount": amount}
        txn.graph.execute(SENT, parameters)
        return ()

    def undo(self, token: str, spec: Mapping[str, Any]) -> Writes:
        """Return the opposite of what `perform` wrote."""
        source, target, amount, mark = spec["source"], spec["target"], spec["amount"], spec["mark"]
        return Writes(
            sqlite=(
                ("UPDATE accounts SET balance = balance + ? WHERE id = ?", (amount, source)),
                ("UPDATE accounts SET balance = balance - ? WHERE id = ?", (amount, target)),
                ("DELETE FROM transfers WHERE token = ?", (token,)),
            ),
            redis=(
                ("INCRBY", f"balance:{source}", amount),
                ("INCRBY", f"balance:{target}", -amount),
                ("LREM", _MARKS, 1, f"{token} {mark}"),
            ),
            graph=(("MATCH ()-[s:SENT {token: $token}]->() DELETE s", {"token": token}),),
        )

    async def image_sqlite(self, store: Relational) -> StoreImage:
        """Read the transfers and the balances."""
        pairs = await store.fetch("SELECT token, mark FROM transfers ORDER BY rowid")
        balances = await store.fetch("SELECT id, balance FROM accounts ORDER BY id")
        return StoreImage(marks=by_token(pairs), counters=self._counters(dict(balances)))

    async def image_redis(self, store: KeyValue) -> StoreImage:
        """Read the list of marks and the balances; what is of another type counts as lost."""
        listed = await store.execute("TYPE", _MARKS) == "list"
        entries: list[str] = await store.execute("LRANGE", _MARKS, 0, -1) if listed else []
        values: list[str | None] = await store.execute("MGET", *(f"balance:{n}" for n in range(self.accounts)))
        marks = by_token(entry.partition(" ")[::2] for entry in entries)
        return StoreImage(marks=marks, counters=self._counters(dict(enumerate(map(whole_number, values)))))

    async def image_graph(self, store: Graph) -> StoreImage:
        """Read the edges; each balance is the initial one and the sum over the account's edges."""
        accounts = await store.query("MATCH (a:Account) RETURN a.id", timeout_s=READ_BACK_S)
        edges = await store.query(
            "MATCH (a:Account)-[s:SENT]->(b:Account) RETURN a.id, b.id, s.amount, s.token, s.mark",
            timeout_s=READ_BACK_S,
        )
        balances = {number: self.initial for (number,) in sorted(accounts)}
        for source, target, amount, _, _ in edges:
            balances[source] -= amount
            balances[target] += amount
        marks = by_token((token, mark) for *_, token, mark in sorted(edges, key=lambda edge: str(edge[3])))
        return StoreImage(marks=marks, counters=self._counters(balances))

    def _counters(self, balances: Mapping[int, int | None]) -> dict[str, int | None]:
        return named(balances, "balance", self.accounts)
