"""What can be read off a request without knowing the server: its command, its keys, how many replies it gets."""

from __future__ import annotations

import re

from chaos.faults.network.resp.framer import Frame, number

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9._-]{0,63}")
_UNPRINTABLE = "?"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYLESS = _names(
    """ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND CONFIG DBSIZE DEBUG DISCARD ECHO EXEC FAILOVER
    FLUSHALL FLUSHDB FUNCTION HELLO INFO KEYS LASTSAVE LATENCY LOLWUT MODULE MONITOR MULTI PING PSYNC QUIT RANDOMKEY
    READONLY READWRITE REPLICAOF RESET ROLE SAVE SCAN SCRIPT SELECT SHUTDOWN SLAVEOF SLOWLOG SWAPDB SYNC TIME
    UNWATCH WAIT WAITAOF"""
)
_EVERY = _names(
    """DEL UNLINK EXISTS TOUCH MGET WATCH SDIFF SINTER SUNION SDIFFSTORE SINTERSTORE SUNIONSTORE PFCOUNT PFMERGE
    SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE"""
)
_FIRST_TWO = _names("RENAME RENAMENX COPY LMOVE BLMOVE SMOVE RPOPLPUSH BRPOPLPUSH ZRANGESTORE GEOSEARCHSTORE LCS")
_ALL_BUT_LAST = _names("BLPOP BRPOP BZPOPMIN BZPOPMAX")
_SECOND = _names("OBJECT MEMORY XINFO XGROUP BITOP")
_COUNTED = {
    **dict.fromkeys(_names("EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO BLMPOP BZMPOP"), 1),
    **dict.fromkeys(_names("SINTERCARD ZUNION ZINTER ZDIFF ZINTERCARD LMPOP ZMPOP"), 0),
}
"""Position, behind the command, of the argument that says how many keys follow it."""

CONTAINERS = _names("CLIENT CLUSTER COMMAND FUNCTION LATENCY MEMORY OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO")
"""Commands that mean little without their second word."""

SECRETS = frozenset({"AUTH", "HELLO", "ACL", "CONFIG", "MIGRATE"})
"""Commands that may carry a password, of which not even a hash is written down."""


def arguments_of(frame: Frame) -> tuple[bytes, ...]:
    """Return the command and its arguments; () for a line or an array without any.

    The frame comes from a `Framer` of requests. Of one that was passed on in parts only the first arguments are known.
    """
    raw = frame.head or frame.raw
    if raw[:1] != b"*":
        return tuple(raw.split())
    found = []
    position = raw.find(b"\n") + 1
    while 0 < position < len(raw):
        start = raw.find(b"\n", position) + 1
        if not start:
            break
        end = start + int(raw[position + 1 : start - 2])
        if end > len(raw):
            break
        found.append(raw[start:end])
        position = end + 2
    return tuple(found)


def name_of(arguments: tuple[bytes, ...]) -> str:
    """Return the command in capitals, "?" for something that is no name (a value must not get into a journal)."""
    first = arguments[0] if arguments else b""
    return first.decode("ascii").upper() if _NAME.fullmatch(first) else _UNPRINTABLE


def subcommand_of(arguments: tuple[bytes, ...]) -> str:
    """Return the second word in capitals, such as SETNAME of CLIENT; "" when there is none or it is no name."""
    second = arguments[1] if len(arguments) > 1 else b""
    return second.decode("ascii").upper() if _NAME.fullmatch(second) else ""


def keys_of(name: str, arguments: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the keys (for publish and subscribe: the channels) that a request names.

    A command that nobody here has heard of is taken to have its first argument as key, as most have.
    """
    rest = arguments[1:]
    if name in _KEYLESS or name == _UNPRINTABLE or not rest:
        return ()
    if name in _EVERY:
        return rest
    if name in ("MSET", "MSETNX"):
        return rest[::2]
    if name in _FIRST_TWO:
        return rest[:2]
    if name in _ALL_BUT_LAST:
        return rest[:-1]
    if name in _SECOND:
        return rest[1:] if name == "BITOP" else rest[1:2]
    if name in _COUNTED:
        return _counted_keys(rest, _COUNTED[name])
    if name in ("XREAD", "XREADGROUP"):
        return _stream_keys(rest)
    return rest[:1]


def _counted_keys(rest: tuple[bytes, ...], at: int) -> tuple[bytes, ...]:
    count = number(rest[at]) if len(rest) > at else None
    return rest[at + 1 : at + 1 + count] if count is not None and count > 0 else ()


def _stream_keys(rest: tuple[bytes, ...]) -> tuple[bytes, ...]:
    words = [word.upper() for word in rest]
    if b"STREAMS" not in words:
        return ()
    tail = rest[words.index(b"STREAMS") + 1 :]
    return tail[: len(tail) // 2]


def shown(key: bytes) -> str:
    """Return a key as text that prints, cut off when long."""
    text = key[:128].decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else "." for one in text)
