"""The stores that follow the commit log. Each remembers in itself how far it has come.

The number of the last applied transaction moves in the same atomic step as the transaction's own writes. So a
repeated or late request is seen to be one, and a store that lost its tail tells the truth about where it is.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import msgspec

from chaos.errors import ChaosError, StoreUnavailable
from chaos.stores.redis import RedisStore, Script
from chaos.transactions import redis_base, redis_snapshot
from chaos.transactions.commit_log import CommitLog
from chaos.transactions.rows import RedoRow
from chaos.transactions.system import Site
from chaos.workload.base import Genesis

APPLIED_KEY = "chaos:applied"
REFUSED_KEY = "chaos:refused"
BASE_EVERY = 8000
"""Transactions from one base to the next; applying them again takes about half a second."""

_FIRST_ROWS = "first-rows"
"""What stands in the place of a token when the server refuses a part of the first rows."""

# A script runs alone but is not undone when a command in it fails. A first command that fails because of the state
# that the server is in (out of memory, a read-only replica) means that nothing was written, so the error is returned
# and the request may be repeated. Whatever else fails does so because of the data (another type, an overflow), which
# no repetition cures: the rest is still applied, and what was refused is kept for the reading back to tell.
_BEGIN = (
    redis_snapshot.KEEP
    + """
local passing = {OOM=1, READONLY=1, MISCONF=1, LOADING=1, BUSY=1, MASTERDOWN=1, NOREPLICAS=1, CLUSTERDOWN=1,
                 TRYAGAIN=1, NOAUTH=1, NOPERM=1}
local reached
local function run(csn, token, commands, at)
  keep(at, csn, commands)
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
if redis.call('EXISTS', 'chaos:~open') == 1 then collect() end
local outcome = 'already'
local applied = tonumber(redis.call('GET', KEYS[1]) or '-1')
for _, row in ipairs(cjson.decode(ARGV[1])) do
  local csn, previous = row[1], row[2]
"""
)
_CHECK = """
  if not reached and applied < tonumber(csn) and applied < tonumber(previous) then return 'gap' end
  if applied < tonumber(csn) then
"""
_NO_CHECK = "  do"
_END = """
    local failure = run(csn, row[3], row[4], tonumber(reached) or applied)
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
_LAST_PART = Script(redis_base.UNLESS_LATE % 3 + _BEGIN + _NO_CHECK + _END)
_FILLINGS_MAX = 1_000_000

OpenSnapshots = Callable[[], Collection[int]]

BATCH_MAX = 64
"""Transactions in one request to a store."""


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class LogLost(ChaosError):
    """The commit log has lost what was durable: a store has come further with it than it tells of.

    No process can mend that: nothing may be committed on top of it.
    """

    def __init__(self, store: str, applied: int, last: int) -> None:
        """Keep the evidence."""
        super().__init__(
            f"{store} has csn={applied}, and the commit log ends at csn={last}: SQLite's files have lost commits;"
            " restore them, or begin anew"
        )


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

    async def close(self) -> None:
        """Note what the next process should know. Raises StoreError or Fenced."""

    async def abandon(self) -> None:
        """Let go of the store as it is: another process has it now."""


class RedisSecondary:
    """Redis: one script for each batch.

    What a server has read from its own file is not relied upon: after a loss of power the file may be short, or have
    holes that the server does not see. The log names the server process whose memory comes from the log; any other
    is emptied and filled again.
    """

    name = "redis"
    script = APPLY
    batch_max = BATCH_MAX
    base_every = BASE_EVERY

    def __init__(self, store: RedisStore, genesis: Genesis, log: CommitLog, site: Site) -> None:
        """Follow `log` with `store`, a client of the applier's own, so that readers cannot starve it."""
        self.store = store
        self.log = log
        self._genesis = genesis
        self._site = site
        self._trusted: str | None = None
        self._next_base: int | None = None
        self._collected = False
        self._fillings = itertools.count(1)
        self.snapshots: OpenSnapshots = tuple
        """Tells the numbers of the snapshots that are open; set by whoever opens them."""

    async def applied(self) -> int:
        """Ask for the number; a server that is new, or that has lost it, is filled first."""
        process = await self._process()
        if self._trusted is None:
            self._trusted = await self.log.trusted(self.name)
        if not self._collected:  # what snapshots have left behind, those of the process before too
            snapshots = self._open_snapshots()
            await self.store.evaluate(redis_snapshot.COLLECT, (), ("", snapshots))
            self._collected = snapshots == "[]"
        value = await self.store.execute("GET", APPLIED_KEY) if process == self._trusted else None
        if value is None:
            return await self._fill(process)
        if int(value) > self.log.last_csn:
            await self.log.demand_owner()  # a successor may have taken over in between, and its commits are well
            raise LogLost(self.name, int(value), self.log.last_csn)
        return int(value)

    async def apply(self, rows: Sequence[RedoRow]) -> bool:
        """Run the script with the commands of all the transactions; now and then make a base."""
        text = _json([[str(row.csn), str(row.previous), row.token, row.writes.redis] for row in rows])
        snapshots = self._open_snapshots()
        self._collected = snapshots == "[]"
        outcome = await self.store.evaluate(self.script, (APPLIED_KEY, REFUSED_KEY), (text, snapshots))
        if outcome != "gap":
            await self._make_base_if_due(rows[-1].csn)
        return bool(outcome != "gap")

    async def close(self) -> None:
        """Nothing: the process is trusted for as long as it lives."""

    async def abandon(self) -> None:
        """Nothing: a server serves many."""

    def _open_snapshots(self) -> str:
        return _json([str(csn) for csn in self.snapshots()])

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
        commands = msgspec.json.decode(content) if content is not None else self._genesis.rows.redis
        await self._refill(csn, [[str(word) for word in command] for command in commands])
        if await self._process() != process:
            raise StoreUnavailable(self.name, "the server was replaced while it was filled")
        await self.log.trust(self.name, process)
        self._trusted = process
        if told:
            await self._site.phase("redis.rebuilt", None, self.name)
        return csn

    async def _refill(self, csn: int, commands: Sequence[list[str]]) -> None:
        """Take away all that is there, run `commands`, and set the number to `csn` in the last step."""
        order = str(self.log.epoch * _FILLINGS_MAX + next(self._fillings))
        await self._fill_with(redis_base.EMPTY, order)
        for part, final in redis_base.parts(commands):
            if final:
                rows = _json([[str(csn), "0", _FIRST_ROWS, part]])
                await self._fill_with(_LAST_PART, rows, "[]", order)
            else:
                await self._fill_with(redis_base.PART, _json(part), order)

    async def _fill_with(self, script: Script, *arguments: str) -> None:
        if await self.store.evaluate(script, (APPLIED_KEY, REFUSED_KEY), arguments) == "late":
            raise StoreUnavailable(self.name, "another filling has begun meanwhile")

    async def _make_base_if_due(self, csn: int) -> None:
        if self._next_base is None:
            self._next_base = (await self.log.beginnings(self.name))[0][0] + self.base_every
        if csn < self._next_base:
            return
        self._next_base = csn + self.base_every  # before trying: one that fails is not tried at each transaction
        await self._site.phase("redis.copying", None, self.name)
        applied, commands = await redis_base.dump(self.store, APPLIED_KEY)
        await self._site.phase("redis.copied", None, self.name)
        self._next_base = csn + max(self.base_every, len(commands))
        await self.log.add_base(self.name, applied, _json(commands), self._site)


async def refused(store: RedisStore) -> dict[str, list[str]]:
    """Return what the server would not take of transactions that it counts as applied, by token. Raises StoreError."""
    flat: list[str] = await store.execute("HGETALL", REFUSED_KEY)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for field, error in sorted(zip(flat[::2], flat[1::2], strict=True)):
        token, _, number = field.rpartition(" ")
        found[token].append(f"command {number}: {error}")
    return dict(found)
