"""The stores that follow the commit log. Each remembers in itself how far it has come.

The number of the last applied transaction moves in the same atomic step as the transaction's own writes. So a
repeated or late request is seen to be one, and a store that lost its tail tells the truth about where it is.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Protocol

from chaos.errors import StoreUnavailable
from chaos.stores.redis import RedisStore, Script
from chaos.transactions import redis_base
from chaos.transactions.commit_log import CommitLog, RedoRow
from chaos.transactions.system import Site
from chaos.workload.base import Genesis

APPLIED_KEY = "chaos:applied"
REFUSED_KEY = "chaos:refused"
BASE_EVERY = 2000
"""Transactions from one base to the next; applying them again takes about a second."""

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
_FILL = Script(_RUN)


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

    async def close(self) -> None:
        """Note what the next process should know. Raises StoreError or Fenced."""


class RedisSecondary:
    """Redis: one script per transaction.

    What a server has read from its own file is not relied upon: after a loss of power the file may be short, or have
    holes that the server does not see. The log names the server process whose memory comes from the log; any other
    is emptied and filled again.
    """

    name = "redis"
    script = APPLY
    base_every = BASE_EVERY

    def __init__(self, store: RedisStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        """Follow `log` with `store`, a client of the applier's own, so that readers cannot starve it."""
        self.store = store
        self.log = log
        self._genesis = genesis
        self._site = site
        self._trusted: str | None = None
        self._next_base: int | None = None

    async def applied(self) -> int:
        """Ask for the number; a server that is new, or that has lost it, is filled first."""
        process = await self._process()
        if self._trusted is None:
            self._trusted = await self.log.trusted(self.name)
        value = await self.store.execute("GET", APPLIED_KEY) if process == self._trusted else None
        return int(value) if value is not None else await self._fill(process)

    async def apply(self, row: RedoRow) -> bool:
        """Run the script with the transaction's commands; now and then make a base."""
        arguments = (str(row.csn), str(row.previous), json.dumps(row.writes.redis), row.token)
        outcome = await self.store.evaluate(self.script, (APPLIED_KEY, REFUSED_KEY), arguments)
        if outcome != "gap":
            await self._make_base_if_due(row.csn)
        return bool(outcome != "gap")

    async def close(self) -> None:
        """Nothing: the process is trusted for as long as it lives."""

    async def _process(self) -> str:
        """Return what names the server's process: another one has another name (INFO, run_id)."""
        info: str = await self.store.execute("INFO", "server")
        return next(line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("run_id:"))

    async def _fill(self, process: str) -> int:
        """Empty the server, give it the newest base or the first rows, then trust it; return the number it is at.

        The number comes last, so a server that is filled in part has none, and is filled again.
        """
        csn, content = (await self.log.beginnings(self.name))[0]
        told = self.log.last_csn > 0
        if told:
            await self._site.phase("redis.rebuilding", None, self.name)
        commands = json.loads(content) if content is not None else self._genesis.rows.redis
        for part, final in redis_base.parts([[str(word) for word in command] for command in commands]):
            script, number = (_FILL, str(csn)) if final else (redis_base.PART, "")
            await self.store.evaluate(script, (APPLIED_KEY, REFUSED_KEY), (number, "0", json.dumps(part), _FIRST_ROWS))
        if await self._process() != process:
            raise StoreUnavailable(self.name, "the server was replaced while it was filled")
        await self.log.trust(self.name, process)
        self._trusted = process
        if told:
            await self._site.phase("redis.rebuilt", None, self.name)
        return csn

    async def _make_base_if_due(self, csn: int) -> None:
        if self._next_base is None:
            self._next_base = (await self.log.beginnings(self.name))[0][0] + self.base_every
        if csn < self._next_base:
            return
        self._next_base = csn + self.base_every  # before trying: one that fails is not tried at each transaction
        applied, commands = await redis_base.dump(self.store, APPLIED_KEY)
        self._next_base = csn + max(self.base_every, len(commands))
        await self.log.add_base(self.name, applied, json.dumps(commands))


async def refused(store: RedisStore) -> dict[str, list[str]]:
    """Return what the server would not take of transactions that it counts as applied, by token. Raises StoreError."""
    flat: list[str] = await store.execute("HGETALL", REFUSED_KEY)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for field, error in sorted(zip(flat[::2], flat[1::2], strict=True)):
        token, _, number = field.rpartition(" ")
        found[token].append(f"command {number}: {error}")
    return dict(found)
