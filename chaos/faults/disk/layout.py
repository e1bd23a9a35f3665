"""The control file as Python sees it: a mirror of shim/control.h, compared with it field by field by a test."""

from __future__ import annotations

import ctypes
from enum import IntEnum

MAGIC = 0x7366736F61686331
ABI = 3

RULE_COUNT = 64
RECORD_COUNT = 4096
PID_COUNT = 256
ROOT_BYTES = 1024
GLOB_BYTES = 256
ID_BYTES = 64
TAIL_BYTES = 120
LOG_TAIL_BYTES = 1 << 18

PROBABILITY_ONE = 1 << 32
PLACE_MAX = (1 << 63) - 1

GENERATION_SHIFT = 48
GENERATION_MAX = 0xFFFF
COUNT_MAX = (1 << GENERATION_SHIFT) - 1


class Action(IntEnum):
    """What a rule does; the comments in control.h say it in full."""

    NONE = 0
    ERRNO = 1
    DELAY = 2
    SHORT = 3
    KILL = 4
    KILL_AFTER = 5
    COUNT = 6
    FULL = 7
    LIE = 8
    SYNC_FAIL = 9
    TEAR = 10
    ROT = 11
    MISDIRECT = 12
    KILL_ALL = 13
    KILL_ALL_AFTER = 14


class Pages(IntEnum):
    """What a failed sync does to the bytes that were not synced."""

    KEPT = 0
    DROPPED = 1
    REVERTED = 2


class Spread(IntEnum):
    """How the drawn part of a delay is spread."""

    NONE = 0
    UNIFORM = 1
    TAIL = 2


class Rule(ctypes.Structure):
    """`struct rule`: one slot; armed while `generation` is not 0."""

    _fields_ = (
        ("generation", ctypes.c_uint64),
        ("checksum", ctypes.c_uint64),
        ("calls", ctypes.c_uint64),
        ("nth", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("amount", ctypes.c_uint64),
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_uint32),
        ("probability", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("first", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
        ("third", ctypes.c_uint64),
        ("spread", ctypes.c_uint64),
        ("id", ctypes.c_char * ID_BYTES),
        ("glob", ctypes.c_char * GLOB_BYTES),
        ("matched", ctypes.c_uint64),
        ("fired", ctypes.c_uint64),
        ("shortened", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
    )


class Record(ctypes.Structure):
    """`struct record`: one injection."""

    _fields_ = (
        ("sequence", ctypes.c_uint64),
        ("clock", ctypes.c_uint64),
        ("time_ns", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("size", ctypes.c_uint64),
        ("amount", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("call", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("error", ctypes.c_uint32),
        ("id", ctypes.c_char * ID_BYTES),
        ("tail", ctypes.c_char * TAIL_BYTES),
    )


_HEAD_END = 8 + 4 + 4 + 8 + 3 * 8 + 32 + 3 * ROOT_BYTES + 8 * PID_COUNT
_CLOCK_AT = 64 * -(-_HEAD_END // 64)
_HOLDER_AT = _CLOCK_AT + 64
_RULES_AT = _HOLDER_AT + 64
_RULES_END = _RULES_AT + RULE_COUNT * ctypes.sizeof(Rule)
_RECORDS_AT = 64 * -(-_RULES_END // 64)
_RECORDS_END = _RECORDS_AT + RECORD_COUNT * ctypes.sizeof(Record)


class File(ctypes.Structure):
    """`struct control`: the whole file. The gaps put the clock and the tables on cache lines of their own."""

    _fields_ = (
        ("magic", ctypes.c_uint64),
        ("abi", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("total_bytes", ctypes.c_uint64),
        ("armed", ctypes.c_uint64),
        ("attached", ctypes.c_uint64),
        ("recorded", ctypes.c_uint64),
        ("source_sha256", ctypes.c_uint8 * 32),
        ("root", ctypes.c_char * ROOT_BYTES),
        ("alias", ctypes.c_char * ROOT_BYTES),
        ("log", ctypes.c_char * ROOT_BYTES),
        ("pids", ctypes.c_uint64 * PID_COUNT),
        ("_gap_clock", ctypes.c_char * (_CLOCK_AT - _HEAD_END)),
        ("clock", ctypes.c_uint64),
        ("recording", ctypes.c_uint64),
        ("doomed", ctypes.c_uint64),
        ("edits", ctypes.c_uint64),
        ("recordings", ctypes.c_uint64),
        ("log_bytes", ctypes.c_uint64),
        ("lost", ctypes.c_uint64),
        ("log_written", ctypes.c_uint64),
        ("holder", ctypes.c_uint64),
        ("waiters", ctypes.c_uint32),
        ("pending", ctypes.c_uint32),
        ("log_behind", ctypes.c_uint64),
        ("_gap_rules", ctypes.c_char * 40),
        ("rules", Rule * RULE_COUNT),
        ("_gap_records", ctypes.c_char * (_RECORDS_AT - _RULES_END)),
        ("records", Record * RECORD_COUNT),
        ("_gap_tail", ctypes.c_char * (64 * -(-_RECORDS_END // 64) - _RECORDS_END)),
        ("log_tail", ctypes.c_uint8 * LOG_TAIL_BYTES),
    )


def checksum(rule: Rule, generation: int) -> int:
    """Return the sum that guards a rule's declared fields: FNV-1a, 64 bits, over `generation` and those bytes."""
    begin = Rule.calls.offset
    end = Rule.glob.offset + GLOB_BYTES
    value = 0xCBF29CE484222325
    for byte in generation.to_bytes(8, "little") + bytes(rule)[begin:end]:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
