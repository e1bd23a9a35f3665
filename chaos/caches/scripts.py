"""What the cache does inside Redis, each in one atomic step.

An entry is a hash: `c` the commit sequence number that its value belongs to, `k` its kind (v: a value, x: deleted by a
commit, n: not there when a reader looked), `v` the value. A writer never replaces a higher number by a lower one, so
it does not matter in which order, how late or how often writes arrive.

There is one hole left: when an entry has expired nobody remembers its number. So who fills after a miss needs a
lease, which it takes when it finds nothing and which ends well before any entry that is written meanwhile. (A server
that evicts entries before their time reopens the hole: let it run with `maxmemory-policy noeviction`, as a store does.)
"""

from __future__ import annotations

from chaos.stores.redis import Script

LOOK = Script(
    """
local entry = redis.call('HMGET', KEYS[1], 'c', 'k', 'v')
local applied = redis.call('GET', KEYS[3]) or '0'
if entry[1] then return {entry[1], entry[2], entry[3], applied} end
redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
return {'', redis.call('GET', KEYS[2]) or '', '', applied}
"""
)
"""KEYS: entry, lease, applied. ARGV: a name for the lease, its length in ms. Without an entry: who has the lease."""

_NEWER = """
local known = redis.call('HGET', key, 'c')
if known and tonumber(known) >= tonumber(csn) then older = older + 1 else
"""
_ALWAYS = "do"
_WRITE = """
  redis.call('HSET', key, 'c', csn, 'k', kind, 'v', value)
  redis.call('PEXPIRE', key, ttl)
end
"""


def fill_script(*, checked: bool = True) -> Script:
    """Fill after a miss. KEYS: entry, lease. ARGV: the lease's name, number, kind, value, length in ms."""
    return Script(
        "if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'late' end\n"
        "redis.call('DEL', KEYS[2])\n"
        "local key, csn, kind, value, ttl, older = KEYS[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], 0\n"
        + (_NEWER if checked else _ALWAYS)
        + _WRITE
        + "return older == 0 and 'filled' or 'older'"
    )


def apply_script() -> Script:
    """Write changes of one commit. KEYS: applied, entries. ARGV: number, length in ms, then kind and value of each."""
    return Script(
        "local csn, ttl, older = ARGV[1], ARGV[2], 0\n"
        "for i = 2, #KEYS do\n"
        "local key, kind, value = KEYS[i], ARGV[2 * i - 1], ARGV[2 * i]\n" + _NEWER + _WRITE + "end\n"
        "if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(csn) then redis.call('SET', KEYS[1], csn) end\n"
        "return older"
    )
