"""The stores that follow the commit log. Each remembers in itself how far it has come.

The number of the last applied transaction moves in the same atomic step as the transaction's own writes. So a
repeated or late request is seen to be one, and a store that lost its tail tells the truth about where it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from chaos.errors import StoreError, StoreUnavailable
from chaos.stores.graph import GraphRejected, GraphStore
from chaos.stores.redis import RedisStore, Script
from chaos.transactions.commit_log import CommitLog, RedoRow
from chaos.workload.base import Genesis

APPLIED_KEY = "chaos:applied"
REFUSED_KEY = "chaos:refused"
_FIRST_ROWS = "first-rows"
"""What stands in the place of a token when the server refuses a part of the first rows."""

# A script runs alone but is not undone when a command in it fails. A first command that fails because of the state
# that the server is in (out of memory, a read-only replica) means that nothing was written, so the error is returned
# and the request may be repeated. Whatever else fails does so because of the data (another type, an overflow), which
# no repetition cures: the rest is still applied, and what was refused is kept for the reading back to tell.
_BEGIN = """
local passing = {OOM=1, READONLY=1, MISCONF=1, LOADING=1, BUSY=1, MASTERDOWN=1, NOREPLICAS=1, CLUSTERDOWN=1,
                 TRYAGAIN=1, NOAUTH=1, NOPERM=1}
local reached
local function run(csn, token, commands)
  for i, command in ipairs(commands) do
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err then
      if i == 1 and passing[string.match(answer.err, '^%-?(%u+)')] then
        if reached then redis.call('SET', KEYS[1], reached) end
        return redis.error_reply(answer.err)
      end
      redis.pcall('HSET', KEYS[2], token .. ' ' .. i, answer.err)
    end
  end
  reached = csn
end
local outcome = 'already'
local applied = tonumber(redis.call('GET', KEYS[1]) or '-1')
for _, row in ipairs(cjson.decode(ARGV[1])) do
  local csn, previous = row[1], row[2]
"""
_CHECK = """
  if not reached and applied < tonumber(csn) and applied < tonumber(previous) then return 'gap' end
  if applied < tonumber(csn) then
"""
_NO_CHECK = "  do"
_END = """
    local failure = run(csn, row[3], row[4])
    if failure then return failure end
  end
end
if reached then
  redis.call('SET', KEYS[1], reached)
  outcome = 'applied'
end
return outcome
"""

APPLY = Script(_BEGIN + _CHECK + _END)
APPLY_UNCHECKED = Script(_BEGIN + _NO_CHECK + _END)
_SEED = Script("if redis.call('EXISTS', KEYS[1]) == 1 then return 'already' end\n" + _BEGIN + _NO_CHECK + _END)

BATCH_MAX = 64
"""Transactions in one request to a store."""


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Secondary(Protocol):
    """A store that follows the commit log."""

    name: str

    @property
    def batch_max(self) -> int:
        """How many rows the next `apply` may get."""

    async def applied(self) -> int:
        """Ask the store for the number of its last transaction; an empty store is given its first rows, 0.

        Raises StoreError.
        """

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Apply `rows`, which follow each other, once however often asked for; False when those before are missing.

        Raises StoreUnavailable, or StoreInDoubt when some may have been applied: ask for the number then.
        """


class RedisSecondary:
    """Redis: one script for each batch."""

    name = "redis"
    script = APPLY
    batch_max = BATCH_MAX

    def __init__(self, store: RedisStore, genesis: Genesis, log: CommitLog) -> None:
        """Follow `log` with `store`, a client of the applier's own, so that readers cannot starve it."""
        self.store = store
        self.log = log
        self._genesis = genesis

    async def applied(self) -> int:
        """Ask for the number; a server that has lost everything starts again from the first rows."""
        value = await self.store.execute("GET", APPLIED_KEY)
        if value is not None:
            return int(value)
        commands = [[str(part) for part in command] for command in self._genesis.rows.redis]
        rows = _json([["0", "0", _FIRST_ROWS, commands]])
        await self.store.evaluate(_SEED, (APPLIED_KEY, REFUSED_KEY), (rows,))
        return 0

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Run the script with the commands of all the transactions."""
        text = _json([[str(row.csn), str(row.previous), row.token, row.writes.redis] for row in rows])
        outcome = await self.store.evaluate(self.script, (APPLIED_KEY, REFUSED_KEY), (text,))
        return bool(outcome != "gap")


async def refused(store: RedisStore) -> dict[str, list[str]]:
    """Return what the server would not take of transactions that it counts as applied, by token. Raises StoreError."""
    flat: list[str] = await store.execute("HGETALL", REFUSED_KEY)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for field, error in sorted(zip(flat[::2], flat[1::2], strict=True)):
        token, _, number = field.rpartition(" ")
        found[token].append(f"command {number}: {error}")
    return dict(found)


class GraphSecondary:
    """The graph: one transaction for each batch.

    An error of any kind undoes the whole batch, so its rows are then sent one by one. A row that the engine refuses
    alone, several times over and in the same words, will never be taken: that is noted in the log, and the graph
    goes on without it.
    """

    name = "graph"
    checked = True
    refusals_max = 3

    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog) -> None:
        """Follow `log` with `store`; the log is also asked how much there should be."""
        self.store = store
        self.log = log
        self._genesis = genesis
        self._verified = 0
        self._alone_up_to = 0
        self._next = 1
        self._blamed: tuple[int, str, int] = (0, "", 0)
        self._refused: set[int] | None = None

    @property
    def batch_max(self) -> int:
        """One while the rows of a batch that failed are tried each by itself."""
        return 1 if self._next <= self._alone_up_to else BATCH_MAX

    async def applied(self) -> int:
        """Ask for the number; after each start of the engine also check that nothing below it is missing.

        A damaged log that the engine accepts silently shows as a hole in the numbers. As long as the commit
        log goes back to the first transaction, a file with holes is set aside and made again.
        """
        state = await self.store.wait_ready(1.0)
        applied = await self.store.applied()
        if applied is None:
            await self.store.seed(self._genesis.graph_schema, self._genesis.rows.graph)
            return 0
        if state.generation != self._verified:
            if state.applied is not None:
                await self.verify(state.applied, state.count)
            self._verified = state.generation
        return applied

    async def verify(self, applied: int, count: int) -> None:
        """Set the file aside when some of the `count` marks up to `applied` are missing. Raises StoreUnavailable."""
        expected = 1 + await self.log.count_up_to(applied)  # one more: number 0 of the first rows
        if count < expected and self.log.complete:
            await self.store.set_aside()
            raise StoreUnavailable(self.name, f"count={count} transactions up to csn={applied}, not {expected}")

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Run the statements of all the transactions and their marks in one transaction of the graph."""
        if self._refused is None:
            self._refused = set(await self.log.refusals(self.name))
        told = [
            (row.csn, row.previous, row.token, () if row.csn in self._refused else row.writes.graph) for row in rows
        ]
        try:
            outcome = await self.store.apply_all(told, checked=self.checked)
        except StoreError as error:
            self._alone_up_to = max(self._alone_up_to, rows[-1].csn)
            if len(rows) == 1 and isinstance(error, GraphRejected):
                await self._blame(rows[0], str(error))
            raise
        self._next = rows[-1].csn + 1
        return outcome != "gap"

    async def _blame(self, row: RedoRow, error: str) -> None:
        """Count how often the engine has refused this row in these words; when that is enough, give its part up."""
        csn, text, count = self._blamed
        count = count + 1 if (csn, text) == (row.csn, error) else 1
        self._blamed = (row.csn, error, count)
        if count >= self.refusals_max and self._refused is not None:
            await self.log.refuse(self.name, row, error)
            self._refused.add(row.csn)
