"""The stores that follow the commit log. Each remembers in itself how far it has come.

The number of the last applied transaction moves in the same atomic step as the transaction's own writes. So a
repeated or late request is seen to be one, and a store that lost its tail tells the truth about where it is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Protocol

from chaos.errors import StoreUnavailable
from chaos.stores.graph import GraphStore
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
_RUN = """
local passing = {OOM=1, READONLY=1, MISCONF=1, LOADING=1, BUSY=1, MASTERDOWN=1, NOREPLICAS=1, CLUSTERDOWN=1,
                 TRYAGAIN=1, NOAUTH=1, NOPERM=1}
for i, command in ipairs(cjson.decode(ARGV[3])) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    if i == 1 and passing[string.match(answer.err, '^%-?(%u+)')] then return redis.error_reply(answer.err) end
    redis.pcall('HSET', KEYS[2], ARGV[4] .. ' ' .. i, answer.err)
  end
end
redis.call('SET', KEYS[1], ARGV[1])
return 'applied'
"""

_CHECK = """
local applied = tonumber(redis.call('GET', KEYS[1]) or '-1')
if applied >= tonumber(ARGV[1]) then return 'already' end
if applied < tonumber(ARGV[2]) then return 'gap' end
"""

APPLY = Script(_CHECK + _RUN)
APPLY_UNCHECKED = Script(_RUN)
_SEED = Script("if redis.call('EXISTS', KEYS[1]) == 1 then return 'already' end\n" + _RUN)


class Secondary(Protocol):
    """A store that follows the commit log."""

    name: str

    async def applied(self) -> int:
        """Ask the store for the number of its last transaction; an empty store is given its first rows, 0.

        Raises StoreError.
        """

    async def apply(self, row: RedoRow) -> bool:
        """Apply `row`, once however often it is asked for; False when rows before it are missing.

        Raises StoreUnavailable, or StoreInDoubt when it may have been applied.
        """


class RedisSecondary:
    """Redis: one script per transaction."""

    name = "redis"
    script = APPLY

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
        await self.store.evaluate(_SEED, (APPLIED_KEY, REFUSED_KEY), ("0", "0", json.dumps(commands), _FIRST_ROWS))
        return 0

    async def apply(self, row: RedoRow) -> bool:
        """Run the script with the transaction's commands."""
        arguments = (str(row.csn), str(row.previous), json.dumps(row.writes.redis), row.token)
        outcome = await self.store.evaluate(self.script, (APPLIED_KEY, REFUSED_KEY), arguments)
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
    """The graph: one transaction per transaction."""

    name = "graph"
    checked = True

    def __init__(self, store: GraphStore, genesis: Genesis, log: CommitLog) -> None:
        """Follow `log` with `store`; the log is also asked how much there should be."""
        self.store = store
        self.log = log
        self._genesis = genesis
        self._verified = 0

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

    async def apply(self, row: RedoRow) -> bool:
        """Run the transaction's statements and its mark in one transaction of the graph."""
        outcome = await self.store.apply(row.csn, row.previous, row.token, row.writes.graph, checked=self.checked)
        return outcome != "gap"
