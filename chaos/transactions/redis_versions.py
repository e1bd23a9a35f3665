"""Redis with versions: what a key holds now, and beside it what it held before, each with its begin and its end.

A key holds its newest version under its own name, so that whoever wants the newest one asks for nothing more. The
versions before it are in a sorted set of the key's own (`chaos:~old:KEY`), scored by their end, the number of the
transaction that wrote the next one: the first with an end above S is what a reader at S sees, and when there is none,
nobody has written the key after S. The newest version begins where the one before it ends; `chaos:~newest` has that
number for each key that has older versions at all.

**What is shipped but not committed** has a begin above the newest committed number. No reader sees it, whose S is a
committed one, and taking it back is putting the version before in its place. So nothing has to be remembered of a
batch: its numbers tell.

**Order.** Whatever changes the server bears an order, the epoch of the leader and a number within it, and the server
remembers the highest. A request that comes late, from a leader that was replaced or after it was given up, is refused
as "late", for ever. It also names the server process that it is meant for, since another process may have read
anything from its file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from chaos.stores.redis import RedisStore, Script
from chaos.transactions.redis_snapshot import ANSWER, answer, names, pattern

_SERVER = """
local function stranger(name)
  return name ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end
"""

# head: epoch, number, server, committed, horizon, all as text; numbers beyond 2^53 are out of reach
_BEGIN = (
    _SERVER
    + """
local head = cjson.decode(ARGV[1])
local epoch, number = string.match(redis.call('GET', 'chaos:~order') or '0 0', '(%d+) (%d+)')
epoch, number = tonumber(epoch), tonumber(number)
local mine = {tonumber(head.epoch), tonumber(head.number)}
if stranger(head.server) then return {'stranger'} end
if mine[1] < epoch or (mine[1] == epoch and mine[2] < number) then return {'late'} end
local again = mine[1] == epoch and mine[2] == number
local function ordered() redis.call('SET', 'chaos:~order', head.epoch .. ' ' .. head.number) end
local function at(key, csn)
  return redis.call('ZRANGEBYSCORE', 'chaos:~old:' .. key, '(' .. csn, '+inf', 'LIMIT', 0, 1)[1]
end
local function image(key)
  local dump = redis.call('DUMP', key)
  if not dump then return '-' end
  local left, ends = redis.call('PTTL', key), 0
  if left > 0 then
    local now = redis.call('TIME')
    ends = now[1] * 1000 + math.floor(now[2] / 1000) + left
  end
  return string.format('=%.0f ', ends) .. dump
end
local function restore(key, version)
  local state = string.match(version, '^%d+ %d+ ([-=])')
  if state == '-' then return redis.call('DEL', key) end
  local _, stop, ends = string.find(version, '^%d+ %d+ =(%d+) ')
  redis.call('RESTORE', key, ends, string.sub(version, stop + 1), 'REPLACE', 'ABSTTL')
end
local function take_back(csn)  -- false when what was there at csn has been collected
  if tonumber(redis.call('GET', 'chaos:~horizon') or '-1') > tonumber(csn) then return false end
  local keys = redis.call('ZRANGEBYSCORE', 'chaos:~newest', '(' .. csn, '+inf')
  for _, key in ipairs(keys) do
    local version = at(key, csn)
    if not version then return false end
    restore(key, version)
    redis.call('ZREMRANGEBYSCORE', 'chaos:~old:' .. key, '(' .. csn, '+inf')
    local before = redis.call('ZREVRANGE', 'chaos:~old:' .. key, 0, 0, 'WITHSCORES')[2]
    if before then redis.call('ZADD', 'chaos:~newest', before, key)
    else redis.call('ZREM', 'chaos:~newest', key) end
  end
  redis.call('SET', KEYS[1], csn)
  return #keys
end
"""
)

SHIP = Script(
    _BEGIN
    + """
if again then return {'already'} end
local rows = cjson.decode(ARGV[2])
local applied = redis.call('GET', KEYS[1])
if not applied then return {'gap'} end
if tonumber(applied) > tonumber(head.committed) then
  if not take_back(head.committed) then return {'torn'} end
  applied = head.committed
end
if tonumber(applied) ~= tonumber(rows[1][2]) then return {'gap'} end
local before = redis.call('GET', 'chaos:~order')
ordered()
for _, key in ipairs(redis.call('ZRANGEBYSCORE', 'chaos:~newest', '-inf', head.horizon, 'LIMIT', 0, 256)) do
  redis.call('UNLINK', 'chaos:~old:' .. key)
  redis.call('ZREM', 'chaos:~newest', key)
end
if tonumber(redis.call('GET', 'chaos:~horizon') or '-1') < tonumber(head.horizon) then
  redis.call('SET', 'chaos:~horizon', head.horizon)
end
local saved = {}
local function save(key, csn)
  if saved[key] then return end
  saved[key] = true
  local chain = 'chaos:~old:' .. key
  redis.call('ZREMRANGEBYSCORE', chain, '-inf', head.horizon)
  local begins = redis.call('ZSCORE', 'chaos:~newest', key) or '0'
  redis.call('ZADD', chain, csn, begins .. ' ' .. csn .. ' ' .. image(key))
  redis.call('ZADD', 'chaos:~newest', csn, key)
end
for number, row in ipairs(rows) do
  for _, command in ipairs(row[4]) do
    for i = 2, command[1] == 'DEL' and #command or 2 do save(command[i], row[1]) end
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err then
      if not take_back(head.committed) then return {'torn'} end
      if before then redis.call('SET', 'chaos:~order', before) else redis.call('DEL', 'chaos:~order') end
      return {'refused', row[3], answer.err}
    end
  end
end
redis.call('SET', KEYS[1], rows[#rows][1])
return {'shipped'}
"""
)
"""Writes the new versions of a batch, all or nothing. KEYS: the number applied; ARGV: head, rows."""

TAKE_BACK = Script(
    _BEGIN
    + """
if again then return {'already'} end
local applied = redis.call('GET', KEYS[1])
if not applied then return {'empty'} end
ordered()
if tonumber(applied) <= tonumber(head.committed) then return {'settled', applied} end
if not take_back(head.committed) then return {'torn'} end
return {'settled', head.committed}
"""
)
"""Takes back what is above the committed number, and lets nothing arrive any more that was sent before."""

FILL = Script(
    _BEGIN
    + """
if again then return {'already'} end
if ARGV[2] == 'empty' then
  for _, key in ipairs(redis.call('KEYS', '*')) do
    if key ~= 'chaos:owner' and key ~= 'chaos:before' then redis.call('DEL', key) end
  end
end
ordered()
for _, command in ipairs(cjson.decode(ARGV[3])) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    if ARGV[2] == 'part' then return redis.error_reply(answer.err) end
    redis.call('HSET', KEYS[2], 'first-rows 1', answer.err)
  end
end
return {'filled'}
"""
)
"""Puts a part of a base, or the first rows, into the server; 'empty' takes away all that was there before."""

FOLLOW = Script(
    _BEGIN
    + """
if again then return {'already'} end
local applied = tonumber(redis.call('GET', KEYS[1]) or '-1')
local reached
for _, row in ipairs(cjson.decode(ARGV[2])) do
  if tonumber(row[1]) > applied then
    if not reached then
      if applied < tonumber(row[2]) then return {'gap'} end
      ordered()
    end
    for i, command in ipairs(row[4]) do
      local answer = redis.pcall(unpack(command))
      if type(answer) == 'table' and answer.err then redis.call('HSET', KEYS[2], row[3] .. ' ' .. i, answer.err) end
    end
    reached = row[1]
  end
end
if not reached then return {'already'} end
redis.call('SET', KEYS[1], reached)
redis.call('SET', 'chaos:~horizon', reached)
return {'followed'}
"""
)
"""Applies committed transactions to a server that lacks them: nothing is kept for readers of earlier states."""

_LOOK = (
    _SERVER
    + """
local snapshot = ARGV[1]
if stranger(ARGV[4]) then return {'lost'} end
local applied = tonumber(redis.call('GET', 'chaos:applied') or '-1')
if applied < tonumber(snapshot) then return {'behind'} end
if tonumber(redis.call('GET', 'chaos:~horizon') or '-1') > tonumber(snapshot) then return {'lost'} end
local function at(key)
  local found = redis.call('ZRANGEBYSCORE', 'chaos:~old:' .. key, '(' .. snapshot, '+inf', 'LIMIT', 0, 1)[1]
  if not found then return nil, nil end
  local _, stop = string.find(found, '^%d+ %d+ =%d+ ')
  return found, stop and string.sub(found, stop + 1)
end
"""
)
READ = Script(
    _LOOK
    + """
local key = KEYS[1]
local kept, dump = at(key)
"""
    + ANSWER
)
KEYS = Script(
    _LOOK
    + """
local prefix = ARGV[3]
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[2])) do found[key] = true end
for _, key in ipairs(redis.call('ZRANGEBYSCORE', 'chaos:~newest', '(' .. snapshot, '+inf')) do
  if string.sub(key, 1, #prefix) == prefix then
    local kept, dump = at(key)
    found[key] = (dump and true) or nil
  end
end
local listed = {}
for key in pairs(found) do listed[#listed + 1] = key end
return {'ok', listed}
"""
)


class VersionsReading:
    """Reads the versions that a number sees. `server` tells which server process is the right one."""

    def __init__(self, store: RedisStore, server: Callable[[], str]) -> None:
        """Read from `store`."""
        self._store = store
        self._server = server

    async def read(self, csn: int, command: Sequence[str], own: Sequence[Sequence[str]]) -> object:
        """Run a reading command on the version of its key that `csn` sees, with the commands `own` on top of it.

        Raises SnapshotMissed, StoreUnavailable or StoreInDoubt.
        """
        arguments = (str(csn), text(command), text(own), self._server())
        return answer(await self._store.evaluate(READ, (command[1],), arguments))

    async def keys(self, csn: int, prefix: str) -> set[str]:
        """Return the keys with a prefix that existed at `csn`. Raises like `read`."""
        return names(await self._store.evaluate(KEYS, (), (str(csn), pattern(prefix), prefix, self._server())))


def text(value: object) -> str:
    """Return `value` as JSON."""
    return msgspec.json.encode(value).decode()
