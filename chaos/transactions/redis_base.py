"""All that a Redis database holds, as the commands that make it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from chaos.errors import StoreUnavailable
from chaos.stores.redis import RedisStore, Script

EMPTY = Script(
    """
if tonumber(redis.call('GET', 'chaos:~filling') or '0') > tonumber(ARGV[1]) then return 'late' end
for _, key in ipairs(redis.call('KEYS', '*')) do
  if key ~= 'chaos:owner' and key ~= 'chaos:before' then redis.call('DEL', key) end
end
redis.call('SET', 'chaos:~filling', ARGV[1])
return 'empty'
"""
)
"""Begins the filling number ARGV[1]: takes all keys away but the two of whoever lends the database to a run
(`chaos.backends.docker.database`). What an earlier filling has sent, and the network delivers later, is refused.
"""

UNLESS_LATE = "if redis.call('GET', 'chaos:~filling') ~= ARGV[%d] then return 'late' end\n"
"""The beginning of a script that belongs to a filling; %d is the argument that has its number."""

PART = Script(
    UNLESS_LATE % 2
    + """
for _, command in ipairs(cjson.decode(ARGV[1])) do redis.call(unpack(command)) end
return 'part'
"""
)
"""Runs some of the commands of a base, to be followed by more."""

_WORDS_MAX = 500
_COMMANDS_MAX = 2000

# One script, so that all keys are as of one moment. A type without an entry is an error: a base must be complete.
_DUMP = Script(
    """
local read = {
  string = function(key) return {redis.call('GET', key)} end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
}
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if string.sub(key, 1, 7) ~= 'chaos:~' and key ~= 'chaos:owner' and key ~= 'chaos:before' then
    local kind = redis.call('TYPE', key).ok
    if not read[kind] then return redis.error_reply('ERR key of type ' .. kind .. ' cannot be made again') end
    table.insert(found, {key, kind, read[kind](key), redis.call('PTTL', key)})
  end
end
return cjson.encode({redis.call('GET', KEYS[1]), found, redis.call('TIME')})
"""
)
_MAKERS = {"string": ("SET", 1), "list": ("RPUSH", 1), "set": ("SADD", 1), "hash": ("HSET", 2), "zset": ("ZADD", 2)}


async def dump(store: RedisStore, applied_key: str) -> tuple[int, list[list[str]]]:
    """Return the number under `applied_key`, and commands that make all other keys, as of one moment.

    The server does nothing else meanwhile: about a millisecond for a thousand small keys. Raises StoreError, also
    when there is something that these commands cannot make, or no number.
    """
    text = await store.evaluate(_DUMP, (applied_key,), ())
    applied, found, (seconds, microseconds) = json.loads(text)
    if not applied:
        raise StoreUnavailable(store.name, f"{applied_key} is missing")
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    commands: list[list[str]] = []
    for key, kind, values, left_ms in found:
        if key != applied_key:
            commands += _commands(key, kind, values)
            commands += [["PEXPIREAT", key, str(now_ms + left_ms)]] if left_ms >= 0 else []
    return int(applied), commands


def parts(commands: Sequence[list[str]]) -> Iterator[tuple[list[list[str]], bool]]:
    """Yield the commands that fill an empty server, in parts that a script can take; True with the last one."""
    for low in range(0, max(1, len(commands)), _COMMANDS_MAX):
        yield list(commands[low : low + _COMMANDS_MAX]), low + _COMMANDS_MAX >= len(commands)


def _commands(key: str, kind: str, values: Sequence[Any]) -> Iterator[list[str]]:
    name, words = _MAKERS[kind]
    if kind == "zset":  # the server tells members before scores, and wants scores before members
        values = [values[at ^ 1] for at in range(len(values))]
    for low in range(0, len(values), _WORDS_MAX * words):
        yield [name, key, *map(str, values[low : low + _WORDS_MAX * words])]
