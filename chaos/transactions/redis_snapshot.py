"""Redis as of a snapshot: what the applier keeps of a value before it changes it, and how that is read.

While snapshots are open that are older than a transaction which is applied, the value of each key that it writes is
copied first, into one hash for each such snapshot. A reader at snapshot S takes the copy when there is one, and the
current value otherwise, since nobody has written the key after S then. Nothing is copied, and nothing else is
different, while no snapshot is open. The hashes go when their snapshots are closed.

A hash is begun only when the first transaction after its S is applied, so a server that has lost its data, and was
filled again from a later state, has none; its readers are told that the snapshot is lost, and begin anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chaos.errors import StoreUnavailable
from chaos.stores.redis import RedisStore, Script

KEEP = """
local snapshots = cjson.decode(ARGV[2] or '[]')
local function copy(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return '-' end
  local sizes = {string='STRLEN', list='LLEN', hash='HLEN', set='SCARD', zset='ZCARD'}
  local size = redis.call(sizes[kind] or 'EXISTS', key)
  if size > (kind == 'string' and 65536 or 512) then return '!' end
  return '=' .. redis.call('DUMP', key)
end
local function keep(at, csn, commands)
  for _, snapshot in ipairs(snapshots) do
    local place = 'chaos:~at:' .. snapshot
    if tonumber(snapshot) < tonumber(csn) then
      if at <= tonumber(snapshot) then
        redis.call('HSET', place, 'begun', csn)
        redis.call('SADD', 'chaos:~open', place)
      end
      if redis.call('EXISTS', place) == 1 then
        for _, command in ipairs(commands) do
          for i = 2, command[1] == 'DEL' and #command or 2 do
            local field = 'key ' .. command[i]
            if redis.call('HEXISTS', place, field) == 0 then redis.call('HSET', place, field, copy(command[i])) end
          end
        end
      end
    end
  end
end
local function collect()
  local wanted = {}
  for _, snapshot in ipairs(snapshots) do wanted['chaos:~at:' .. snapshot] = true end
  for _, place in ipairs(redis.call('SMEMBERS', 'chaos:~open')) do
    if not wanted[place] then
      redis.call('UNLINK', place)
      redis.call('SREM', 'chaos:~open', place)
    end
  end
end
"""
"""Lua: `keep` copies what a transaction is about to write, `collect` drops what no open snapshot needs."""

COLLECT = Script(KEEP + "collect()\nreturn 'collected'")

ANSWER = """
local own = cjson.decode(ARGV[3])
local scratch
if kept or #own > 0 then
  scratch = 'chaos:~scratch'
  redis.call('DEL', scratch)
  if not kept then redis.call('COPY', key, scratch)
  elseif dump then redis.call('RESTORE', scratch, 0, dump) end
  for _, command in ipairs(own) do
    if command[1] == 'DEL' then redis.call('DEL', scratch)
    else
      command[2] = scratch
      redis.pcall(unpack(command))
    end
  end
end
local read = cjson.decode(ARGV[2])
read[2] = scratch or key
local answer = redis.pcall(unpack(read))
if scratch then redis.call('DEL', scratch) end
if type(answer) == 'table' and answer.err then return redis.error_reply(answer.err) end
if type(answer) == 'table' and answer.ok then answer = answer.ok end
return {'ok', answer}
"""
"""Lua: answers a reading command on `key`: as it is, or, when `kept`, as `dump` says (false: there was none)."""

_LOOK = """
local snapshot = ARGV[1]
local place = 'chaos:~at:' .. snapshot
local applied = tonumber(redis.call('GET', 'chaos:applied') or '-1')
if applied < tonumber(snapshot) then return {'behind'} end
local begun = applied > tonumber(snapshot)
if begun and redis.call('EXISTS', place) == 0 then return {'lost'} end
"""
_READ = Script(
    _LOOK
    + """
local key = KEYS[1]
local kept = begun and redis.call('HGET', place, 'key ' .. key)
if kept == '!' then return {'large'} end
local dump = kept and kept ~= '-' and string.sub(kept, 2)
"""
    + ANSWER
)
_KEYS = Script(
    _LOOK
    + """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[2])) do found[key] = true end
if begun then
  local kept = redis.call('HGETALL', place)
  for i = 1, #kept, 2 do
    local key = string.sub(kept[i], 1, 4) == 'key ' and string.sub(kept[i], 5)
    if key and string.sub(key, 1, #ARGV[3]) == ARGV[3] then found[key] = kept[i + 1] ~= '-' or nil end
  end
end
local names = {}
for key in pairs(found) do names[#names + 1] = key end
return {'ok', names}
"""
)


class SnapshotMissed(Exception):
    """The server cannot answer as of this snapshot; the text says why. `behind`: it soon may."""

    def __init__(self, why: str) -> None:
        """Keep the server's word for it."""
        self.behind = why == "behind"
        words = {"lost": "redis has lost what the snapshot saw", "large": "the value was too large to be kept"}
        super().__init__(words.get(why, "redis is behind the snapshot"))


class KeptValues:
    """Reads `store` with the help of what the applier has kept."""

    def __init__(self, store: RedisStore) -> None:
        """Read from this one."""
        self._store = store

    async def read(self, csn: int, command: Sequence[str], own: Sequence[Sequence[str]]) -> object:
        """Run a reading command on its key as it was at `csn`, with the commands `own` on top of it.

        Raises SnapshotMissed, StoreUnavailable or StoreInDoubt.
        """
        arguments = (str(csn), msgspec.json.encode(command).decode(), msgspec.json.encode(own).decode())
        return answer(await self._store.evaluate(_READ, (command[1],), arguments))

    async def keys(self, csn: int, prefix: str) -> set[str]:
        """Return the keys with a prefix that existed at `csn`. Raises like `read`."""
        return names(await self._store.evaluate(_KEYS, (), (str(csn), pattern(prefix), prefix)))


def pattern(prefix: str) -> str:
    """Return what KEYS wants, to tell those that begin with `prefix`."""
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in prefix) + "*"


def names(reply: list[object]) -> set[str]:
    """Return the keys of a reply, without our own. Raises SnapshotMissed, StoreUnavailable."""
    found = answer(reply)
    if not isinstance(found, list):
        raise StoreUnavailable("redis", f"keys: unexpected answer {found!r:.80}")
    return {str(key) for key in found if not str(key).startswith("chaos:")}


def answer(reply: list[object]) -> object:
    """Return what a script answered after 'ok'. Raises SnapshotMissed."""
    if reply[0] != "ok":
        raise SnapshotMissed(str(reply[0]))
    return reply[1] if len(reply) > 1 else None
